"use strict";
// Tables that sort where their head is clicked, and the table of queries, which is unpacked when the page has been drawn.
const PAGE = 12;

const valueOf = (text) => {
  const number = parseFloat(text.replace(/[,≤<\s]/g, "").replace("−", "-"));
  return Number.isNaN(number) ? text.toLowerCase() : number;
};

const compare = (a, b) => (typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1);

const turn = (head) => {
  const down = head.getAttribute("aria-sort") !== "descending";
  for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  return down ? -1 : 1;
};

for (const table of document.querySelectorAll("table.sortable")) {
  for (const head of table.tHead.rows[0].cells) {
    head.addEventListener("click", () => {
      const sign = turn(head);
      const place = head.cellIndex;
      const rows = [...table.tBodies[0].rows];
      const key = new Map(rows.map((row) => [row, valueOf(row.cells[place]?.textContent ?? "")]));
      rows.sort((a, b) => sign * compare(key.get(a), key.get(b)));
      table.tBodies[0].append(...rows);
    });
  }
}

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

async function queries(place) {
  const { models, reference, rows, total } = await unpack(place.dataset.rows);
  const table = place.querySelector("table");
  const best = models.findIndex((name) => name !== "zero-shot");
  const columns = [
    ["query", (row) => row.query, "text query"],
    ["video", (row) => row.video, "text id"],
    ["moment, % of video", (row) => (row.ratio === null ? null : 100 * row.ratio), ""],
    ...(rows.some((row) => row.group) ? [["group", (row) => row.group, "text"]] : []),
    ...models.map((name, i) => [`rank, ${name}`, (row) => row.ranks[i], i === best ? "outcome" : ""]),
  ];
  const words = place.querySelector("#words");
  const outcome = place.querySelector("#outcome");
  const more = place.querySelector("#more");
  let order = null;
  let shown = PAGE;

  const cell = (kind, text) => {
    const made = document.createElement(kind);
    made.textContent = text;
    return made;
  };
  const written = (value) =>
    value === null ? "" : typeof value === "number" ? value.toLocaleString("en", { maximumFractionDigits: 1 }) : value;

  const draw = () => {
    const asked = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (row) =>
      asked.every((word) => `${row.query} ${row.video} ${row.id}`.toLowerCase().includes(word)) &&
      (!outcome.value || row.outcome === outcome.value || (outcome.value === "failed" && row.ranks[best] > 1));
    const chosen = rows.filter(fits);
    if (order) chosen.sort((a, b) => order.sign * compare(order.value(a) ?? "", order.value(b) ?? ""));
    table.tBodies[0].replaceChildren(
      ...chosen.slice(0, shown).map((row) => {
        const line = document.createElement("tr");
        for (const [, value, kind] of columns) {
          const one = cell("td", written(value(row)));
          one.className = kind === "outcome" ? row.outcome : kind;
          line.append(one);
        }
        return line;
      }),
    );
    more.hidden = chosen.length <= shown;
    place.querySelector("#counted").textContent =
      `${chosen.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows` +
      (total > rows.length ? `; ${total.toLocaleString("en")} queries in all` : "");
  };

  const head = document.createElement("tr");
  for (const [name, value, kind] of columns) {
    const one = cell("th", name);
    if (kind.includes("text")) one.className = "text";
    one.addEventListener("click", () => {
      order = { value, sign: turn(one) };
      draw();
    });
    head.append(one);
  }
  table.tHead.append(head);
  if (!reference) for (const option of [...outcome.options].slice(1, 3)) option.remove();
  for (const one of [words, outcome])
    for (const kind of ["input", "change"]) one.addEventListener(kind, () => ((shown = PAGE), draw()));
  place.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", () => ((shown += 4 * PAGE), draw()));
  draw();
  place.dataset.ready = "yes";
}

const place = document.getElementById("queries");
if (place) queries(place);
