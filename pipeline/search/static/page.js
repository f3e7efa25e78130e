import { address, answer, at, clock, element, keepPicture, moment, picture, remember, state } from "/static/state.js";
import { row } from "/static/hits.js";
import * as player from "/static/player.js";

const SELECTS = ["model", "beside", "split", "group"];
const LENGTHS = [0, 10, 60, 300, 1200, 3600];  // seconds, where one range of lengths ends and the next begins
const AT_ONCE = 50;  // hits that are asked for and put on the page together
let columns = [], chosen = null, turn = 0, models = [];

// What is asked, as the interface takes it: a sentence, a moment or a picture.
function request(now, model, first, k) {
  const wanted = { model, split: now.split, group: now.group, shortest: now.shortest, longest: now.longest, first, k };
  if (now.picture) return [`/api/picture${address(wanted)}`, { method: "POST", body: picture() }];
  if (now.like) return [`/api/similar${address({ ...moment(now.like), ...wanted })}`];
  return [`/api/search${address({ q: now.q, ...wanted })}`];
}

class Column {
  constructor(model, now, place) {
    Object.assign(this, { model, now, place, turn, hits: [], found: Infinity, loading: null });
    this.list = element("ol");
    this.verdict = element("p", { className: "verdict waiting", textContent: "searching …" });
    this.end = element("p", { className: "end" });
    this.shown = element("section", { className: "column" }, this.verdict, this.list, this.end);
    this.watch = new IntersectionObserver(([entry]) => { if (entry.isIntersecting) this.more(); }, { rootMargin: "800px" });
  }

  // The next hits; those who ask while they come wait for the same ones.
  more(k = AT_ONCE) {
    if (this.hits.length < this.found) this.loading ??= this.fetch(k).finally(() => { this.loading = null; });
    return this.loading;
  }

  async fetch(k) {
    this.watch.disconnect();
    try {
      const got = await answer(...request(this.now, this.model, this.hits.length, k));
      if (this.turn !== turn) return;  // a later query was typed meanwhile
      this.found = got.found;
      if (!got.hits.length) this.found = this.hits.length;
      for (const hit of got.hits) this.add(hit);
      this.tell(got);
      if (this.hits.length < this.found) this.watch.observe(this.end);
    } catch (error) {
      this.found = this.hits.length;
      this.verdict.className = "verdict weak";
      this.verdict.textContent = error.message;
    }
  }

  add(hit) {
    const rank = this.hits.length;
    const item = row(hit, this.model, rank, { seek: (seconds) => { choose(this, rank); play(seconds); }, like });
    this.hits.push({ hit, model: this.model, item });
    this.list.append(item);
  }

  tell(got) {
    this.verdict.className = `verdict ${got.matches ? "" : "weak"}`;
    this.verdict.textContent = got.verdict;
    const more = this.hits.length < this.found ? `${this.hits.length} of ${this.found} videos` : `all ${this.found} videos`;
    this.end.textContent = this.hits.length ? more : "";
  }
}

function like(id, seconds) {
  remember({ q: "", picture: "", like: `${id}@${seconds.toFixed(2)}`, hit: "", in: "", t: "" });
  show();
  scrollTo(0, 0);
}

function asked(now) { return Boolean(now.q || now.like || now.picture); }

async function show() {
  const now = state(), mine = ++turn;
  fill(now);
  columns.forEach((column) => column.watch.disconnect());
  chosen = null;
  at("columns").removeAttribute("aria-busy");
  if (!asked(now)) { columns = []; player.close(); at("columns").replaceChildren(welcome()); return; }
  const first = now.picture && models.includes("zero-shot") ? "zero-shot" : at("model").value;
  const others = now.beside === "all" ? models : now.beside ? [now.beside] : [];
  const names = [...new Set([first, ...(now.picture ? [] : others)])];
  at("columns").setAttribute("aria-busy", "true");
  columns = names.map((name, place) => new Column(name, now, place));
  await Promise.all(columns.map((column) => column.more(Math.min(1000, Math.max(AT_ONCE, Number(now.hit ?? 0) + 1)))));
  if (mine !== turn) return;
  at("columns").removeAttribute("aria-busy");
  at("columns").replaceChildren(...columns.map((column) => column.shown));
  const column = columns[Number(now.in ?? 0)] ?? columns[0];
  if (now.hit && column.hits[now.hit]) {
    choose(column, Number(now.hit));
    player.cue(column.hits[now.hit], Number(now.t ?? 0));
  } else {
    if (columns[0].hits.length) choose(columns[0], 0, false);
    if (!now.t) player.close();
  }
}

function fill(now) {
  at("query").value = now.q ?? "";
  at("query").placeholder = now.like ? `like ${moment(now.like).id} at ${clock(Number(moment(now.like).time))}`
    : now.picture ? "like this picture" : "What happens in the video?";
  for (const field of SELECTS) at(field).value = now[field] ?? "";
  if (!at("model").value) at("model").selectedIndex = 0;
  at("length").value = `${now.shortest ?? ""}-${now.longest ?? ""}`;
  at("asked").hidden = true;
  if (now.picture) thumbnail().catch(() => undefined);
  document.title = now.q ? `${now.q} · prvr` : "prvr search";
}

async function thumbnail() {
  const image = await createImageBitmap(picture()), canvas = at("asked");
  canvas.width = Math.round(40 * Math.min(3, image.width / image.height));
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, 40);
  canvas.hidden = false;
}

function welcome() {
  return element("section", { id: "welcome" }, element("p", { textContent: "Type what happens in a video." }),
    element("p", { textContent: "Each answer shows where in the video it happens. A picture can be dropped here too." }));
}

function choose(column, rank, scroll = true) {
  chosen?.column.hits[chosen.rank]?.item.classList.remove("chosen");
  chosen = { column, rank };
  const item = column.hits[rank].item;
  item.classList.add("chosen");
  if (scroll) item.scrollIntoView({ block: "nearest" });
}

function play(seconds) {
  remember({ hit: chosen.rank, in: chosen.column.place || "", t: seconds.toFixed(2) }, true);
  player.play(chosen.column.hits[chosen.rank], seconds);
}

async function move(down) {
  const { column, rank } = chosen ?? { column: columns[0], rank: -1 };
  if (!column) return;
  const next = Math.max(0, rank + down);
  if (next >= column.hits.length) await column.more();
  if (column.hits[next]) choose(column, next);
}

function aside(right) {
  const column = columns[(chosen?.column.place ?? 0) + right];
  if (column?.hits.length) choose(column, Math.min(chosen.rank, column.hits.length - 1));
}

async function searchPicture(file) {
  try {
    await keepPicture(file);
  } catch {
    at("columns").replaceChildren(element("p", { className: "verdict weak", textContent: "This is no picture that the browser can read." }));
    return;
  }
  remember({ q: "", like: "", picture: Date.now(), hit: "", in: "", t: "" });
  show();
}

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const q = at("query").value.trim();
  if (!q) return;
  remember({ q, like: "", picture: "", hit: "", in: "", t: "" });
  at("query").blur();
  show();
  scrollTo(0, 0);
});
for (const id of [...SELECTS, "length"]) {
  at(id).addEventListener("change", () => {
    const [shortest, longest] = at("length").value.split("-");
    remember({ ...Object.fromEntries(SELECTS.map((name) => [name, at(name).value])), shortest, longest, hit: "", in: "", t: "" });
    show();
  });
}
at("picture").addEventListener("click", () => at("file").click());
at("file").addEventListener("change", () => { if (at("file").files[0]) searchPicture(at("file").files[0]); at("file").value = ""; });
addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
  if (file) { event.preventDefault(); searchPicture(file); }
});
addEventListener("dragover", (event) => { event.preventDefault(); at("drop").hidden = false; });
addEventListener("dragleave", (event) => { if (!event.relatedTarget) at("drop").hidden = true; });
addEventListener("drop", (event) => {
  event.preventDefault();
  at("drop").hidden = true;
  if (event.dataTransfer?.files[0]) searchPicture(event.dataTransfer.files[0]);
});
at("close").addEventListener("click", () => { remember({ hit: "", in: "", t: "" }, true); player.close(); });
at("alike").addEventListener("click", () => { const { id, seconds } = player.instant(); like(id, seconds); });

addEventListener("popstate", show);
addEventListener("keydown", (event) => {
  const focus = document.activeElement, name = focus?.tagName;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/" && focus !== at("query")) { event.preventDefault(); at("query").focus(); at("query").select(); return; }
  if (name === "SELECT" || (name === "INPUT" && !["ArrowDown", "ArrowUp"].includes(event.key))) return;
  if ((name === "BUTTON" || name === "A") && ["Enter", " "].includes(event.key)) return;
  const does = {
    ArrowDown: () => { if (name === "INPUT") focus.blur(); move(1); },
    ArrowUp: () => move(-1),
    ArrowRight: () => aside(1),
    ArrowLeft: () => aside(-1),
    Enter: () => { if (chosen) play(chosen.column.hits[chosen.rank].hit.moments[0]?.start ?? 0); },
    Escape: () => at("close").click(),
    " ": () => { if (!at("player").hidden) player.pause(); },
  }[event.key];
  if (does && !(name === "VIDEO" && event.key.startsWith("ArrowR"))) { event.preventDefault(); does(); }
});

async function start() {
  const about = await answer("/api/about");
  models = about.models;
  at("dataset").textContent = `${about.dataset}: ${about.videos.toLocaleString("en")} videos`;
  const options = (id, first, values) => at(id).replaceChildren(...first, ...values.map((value) => new Option(value, value)));
  options("model", [], models);
  options("beside", [new Option("nothing", ""), ...(models.length > 2 ? [new Option("all models", "all")] : [])], models);
  options("split", [new Option("all", "")], about.splits);
  options("group", [new Option("all", "")], about.groups);
  const ends = LENGTHS.filter((seconds) => seconds < (about.longest ?? 0));
  const short = (seconds) => clock(seconds).replace(/\.\d$/, "");
  const ranges = ends.map((from, i) => new Option(ends[i + 1] ? `${short(from)} – ${short(ends[i + 1])}` : `from ${short(from)}`, `${from || ""}-${ends[i + 1] ?? ""}`));
  at("length").replaceChildren(new Option("any", "-"), ...(ends.length > 1 ? ranges : []));
  for (const [id, useful] of [["split", about.splits.length], ["group", about.groups.length], ["beside", models.length > 1], ["length", ends.length > 1]]) {
    at(id).parentElement.hidden = !useful;
  }
  at("picture").hidden = !models.includes("zero-shot");
  await show();
  if (!asked(state())) at("query").focus();
}
start().catch((error) => at("columns").replaceChildren(element("p", { className: "verdict weak", textContent: error.message })));
