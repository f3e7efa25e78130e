"use strict";
// The page's whole state stands in its address, so that a link, a reload and the back button show the same.
const at = (id) => document.getElementById(id);
const FIELDS = ["q", "model", "beside", "split", "group"];
const INPUTS = { q: "query", model: "model", beside: "beside", split: "split", group: "group" };
let chosen = -1, hits = [], asked = 0;

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function clock(seconds) {
  const whole = Math.max(0, seconds), minutes = Math.floor(whole / 60);
  return `${minutes}:${(whole - 60 * minutes).toFixed(1).padStart(4, "0")}`;
}

function state() { return Object.fromEntries(new URLSearchParams(location.search)); }

function address(values) {
  const kept = Object.entries(values).filter(([, value]) => value !== "" && value !== undefined && value !== null);
  return "?" + new URLSearchParams(kept);
}

function remember(values, replace = false) {
  history[replace ? "replaceState" : "pushState"](null, "", address({ ...state(), ...values }));
}

async function answer(path) {
  const response = await fetch(path);
  const read = await response.json();
  if (!response.ok) throw new Error([read.error, read.fix].filter(Boolean).join(": "));
  return read;
}

function still(hit, model) { return `/still/${hit.video}${address({ t: (hit.best ?? 0).toFixed(2), model })}`; }

function strip(hit, seek) {
  const picture = element("canvas", { className: "strip", width: 320, height: 26, title: "how well each part answers; click to play from there" });
  const pen = picture.getContext("2d"), width = 320 / hit.strip.length;
  hit.strip.forEach((value, i) => {
    pen.fillStyle = `hsl(${30 - 18 * value} 90% ${92 - 52 * value}%)`;
    pen.fillRect(i * width, 0, width + 1, 26);
  });
  picture.addEventListener("click", (event) => seek((event.offsetX / picture.clientWidth) * hit.duration));
  return picture;
}

function row(hit, model, place) {
  const seek = (seconds) => { choose(place); play(hit, model, seconds); };
  const poster = element("img", { src: still(hit, model), loading: "lazy", alt: `${hit.id} at its best moment` });
  poster.addEventListener("click", () => seek(hit.moments[0]?.start ?? 0));
  poster.addEventListener("error", () => { poster.alt = "no picture of this video can be shown"; });
  const title = element("div", {}, element("span", { className: "name", textContent: hit.file || hit.id }));
  title.append(element("span", { className: "score", textContent: hit.score.toFixed(3) }));
  if (hit.split) title.append(element("span", { className: "split", textContent: hit.split }));
  const about = element("div", { className: "about" }, title);
  if (hit.captions.length) about.append(element("div", { className: "caption", textContent: hit.captions[0] }));
  if (hit.strip.length) about.append(strip(hit, seek));
  const moments = element("div", { className: "moments" });
  for (const moment of hit.moments) {
    const button = element("button", { type: "button", className: "moment", textContent: `▶ ${clock(moment.start)} – ${clock(moment.end)}` });
    button.addEventListener("click", () => seek(moment.start));
    moments.append(button);
  }
  if (hit.moments[0]?.cut) {
    const cut = element("button", { type: "button", className: "cut", textContent: "copy ffmpeg cut", title: hit.moments[0].cut });
    cut.addEventListener("click", async () => {
      await navigator.clipboard.writeText(hit.moments[0].cut).catch(() => undefined);
      cut.textContent = "copied";
    });
    moments.append(cut);
  }
  const like = element("button", { type: "button", className: "like", textContent: "more like this" });
  like.addEventListener("click", () => { remember({ q: "", like: hit.video, t: (hit.best ?? 0).toFixed(2), hit: "" }); show(); });
  if (at("model").querySelector('option[value="zero-shot"]')) moments.append(like);
  about.append(moments);
  return element("li", { className: "hit" }, poster, about);
}

function column(found, model) {
  const list = element("ol");
  for (const hit of found.hits) {
    const place = hits.length;
    const item = row(hit, model, place);
    hits.push({ hit, model, item });
    list.append(item);
  }
  const verdict = element("p", { className: found.matches ? "verdict" : "verdict weak", textContent: found.verdict });
  return element("section", { className: "column" }, verdict, list);
}

async function show() {
  const now = state(), turn = ++asked;
  for (const field of FIELDS) if (at(INPUTS[field]).value !== (now[field] ?? "")) at(INPUTS[field]).value = now[field] ?? "";
  if (!at("model").value) at("model").selectedIndex = 0;
  hits = []; chosen = -1;
  if (!now.q && now.like === undefined) { at("columns").replaceChildren(); return; }
  const models = now.like !== undefined ? ["zero-shot"] : [at("model").value, ...(now.beside ? [now.beside] : [])];
  at("columns").setAttribute("aria-busy", "true");
  try {
    const found = await Promise.all(models.map((model) => answer(now.like !== undefined
      ? `/api/similar${address({ video: now.like, time: now.t, model, k: 50 })}`
      : `/api/search${address({ q: now.q, model, split: now.split, group: now.group, k: now.k ?? 50 })}`)));
    if (turn !== asked) return;  // a later query was typed meanwhile
    at("columns").replaceChildren(...found.map((one, i) => column(one, models[i])));
    if (now.hit && hits[now.hit]) { choose(Number(now.hit)); cue(hits[now.hit], Number(now.t ?? 0)); }
    else choose(hits.length ? 0 : -1, false);
  } catch (error) {
    if (turn === asked) at("columns").replaceChildren(element("p", { className: "verdict weak", textContent: error.message }));
  } finally {
    at("columns").removeAttribute("aria-busy");
  }
}

function choose(place, scroll = true) {
  hits[chosen]?.item.classList.remove("chosen");
  chosen = place;
  hits[chosen]?.item.classList.add("chosen");
  if (scroll) hits[chosen]?.item.scrollIntoView({ block: "nearest" });
}

function cue({ hit, model }, seconds) {
  const video = at("video"), source = `/video/${hit.video}${address({ model })}`;
  at("player").hidden = false;
  at("unplayable").hidden = true;
  video.hidden = false;
  video.poster = still(hit, model);
  if (video.getAttribute("src") !== source) video.src = source;
  const go = () => { video.currentTime = seconds; };
  if (video.readyState > 0) go(); else video.addEventListener("loadedmetadata", go, { once: true });
  at("playing").textContent = `${hit.file || hit.id}, from ${clock(seconds)}`;
}

function play(hit, model, seconds) {
  remember({ hit: chosen, t: seconds.toFixed(2), ...(state().like !== undefined ? { hit: "" } : {}) }, true);
  cue({ hit, model }, seconds);
  at("video").play().catch(() => undefined);
}

at("video").addEventListener("error", () => {
  if (!at("video").getAttribute("src")) return;
  at("unplayable").hidden = false;
  at("unplayable").textContent = "This browser cannot play the file's codec. The picture below is the moment; the ffmpeg command cuts it out.";
});

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const values = Object.fromEntries(FIELDS.map((field) => [field, at(INPUTS[field]).value]));
  history.pushState(null, "", address(values));
  at("query").blur();
  show();
});
for (const id of ["model", "beside", "split", "group"]) at(id).addEventListener("change", () => { if (at("query").value) at("form").requestSubmit(); });

addEventListener("popstate", show);
addEventListener("keydown", (event) => {
  const typing = ["INPUT", "SELECT", "BUTTON", "VIDEO"].includes(document.activeElement?.tagName);
  if (event.key === "/" && document.activeElement !== at("query")) { event.preventDefault(); at("query").focus(); at("query").select(); return; }
  if (typing && document.activeElement?.tagName !== "VIDEO" && !["ArrowDown", "ArrowUp"].includes(event.key)) return;
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    if (document.activeElement?.tagName === "SELECT") return;
    event.preventDefault();
    choose(Math.min(hits.length - 1, Math.max(0, chosen + (event.key === "ArrowDown" ? 1 : -1))));
  } else if (event.key === "Enter" && hits[chosen]) {
    event.preventDefault();
    play(hits[chosen].hit, hits[chosen].model, hits[chosen].hit.moments[0]?.start ?? 0);
  } else if (event.key === " " && !at("player").hidden) {
    event.preventDefault();
    at("video").paused ? at("video").play().catch(() => undefined) : at("video").pause();
  }
});

async function start() {
  const about = await answer("/api/about");
  at("dataset").textContent = `${about.dataset}: ${about.videos.toLocaleString("en")} videos`;
  const options = (id, first, values) => at(id).replaceChildren(...first, ...values.map((value) => new Option(value, value)));
  options("model", [], about.models);
  options("beside", [new Option("beside: none", "")], about.models);
  options("split", [new Option("all splits", "")], about.splits);
  options("group", [new Option("all groups", "")], about.groups);
  at("split").hidden = !about.splits.length;
  at("group").hidden = !about.groups.length;
  at("beside").hidden = about.models.length < 2;
  await show();
  if (!state().q) at("query").focus();
}
start().catch((error) => at("columns").replaceChildren(element("p", { className: "verdict weak", textContent: error.message })));
