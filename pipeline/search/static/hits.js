// One answer: a still at its best moment, the scores along the video, its moments, and what can be done with them.
import { address, clock, copy, element } from "/static/state.js";

export function still(hit, model, seconds = hit.best ?? 0) {
  return `/still/${hit.video}${address({ t: seconds.toFixed(2), model })}`;
}

function strip(hit, seek) {
  const picture = element("canvas", { className: "strip", width: 640, height: 44, title: "how well each part answers; click to play from there" });
  const pen = picture.getContext("2d"), width = 640 / hit.strip.length;
  hit.strip.forEach((value, i) => {
    pen.fillStyle = `hsl(${42 - 24 * value} 92% 52% / ${0.06 + 0.94 * value ** 1.6})`;
    pen.fillRect(Math.round(i * width), 36 - 36 * (0.25 + 0.75 * value), Math.ceil(width), 36 * (0.25 + 0.75 * value));
  });
  pen.fillStyle = "#ea580c";
  for (const one of hit.moments) pen.fillRect((one.start / hit.duration) * 640, 39, Math.max(4, ((one.end - one.start) / hit.duration) * 640), 5);
  picture.addEventListener("click", (event) => seek((event.offsetX / picture.clientWidth) * hit.duration));
  return picture;
}

function moments(hit, seek) {
  return hit.moments.map((one, i) => {
    const text = `▶ ${clock(one.start)} – ${clock(one.end)}`;
    const button = element("button", { type: "button", className: "moment", textContent: text, title: i ? "another moment" : "the best moment" });
    button.addEventListener("click", () => seek(one.start));
    return button;
  });
}

export function row(hit, model, rank, { seek, like }) {
  const picture = element("img", { src: still(hit, model), loading: "lazy", decoding: "async", alt: `${hit.id} at its best moment` });
  picture.addEventListener("error", () => picture.replaceWith(element("span", { className: "none", textContent: "no picture can be shown" })));
  const poster = element("div", { className: "poster" }, picture);
  if (hit.duration) poster.append(element("span", { className: "length", textContent: clock(hit.duration).replace(/\.\d$/, "") }));
  poster.addEventListener("click", () => seek(hit.moments[0]?.start ?? 0));
  const title = element("div", { className: "title" }, element("span", { className: "rank", textContent: rank + 1 }));
  title.append(element("span", { className: "name", dir: "auto", textContent: hit.file || hit.id, title: hit.id }));
  if (hit.split) title.append(element("span", { className: `split ${hit.split}`, textContent: hit.split }));
  title.append(element("span", { className: "score", textContent: hit.score.toFixed(3), title: "the score that ranks it" }));
  const about = element("div", { className: "about" }, title);
  if (hit.captions.length) {
    about.append(element("div", { className: "caption", dir: "auto", textContent: hit.captions[0], title: hit.captions.join("\n") }));
  }
  if (hit.strip.length && hit.duration) about.append(strip(hit, seek));
  const below = element("div", { className: "moments" }, ...moments(hit, seek));
  if (hit.moments[0]?.cut) {
    const cut = element("button", { type: "button", className: "cut quiet", textContent: "copy ffmpeg cut", title: hit.moments[0].cut });
    cut.addEventListener("click", () => copy(cut, hit.moments[0].cut));
    below.append(cut);
  }
  const alike = element("button", { type: "button", className: "like quiet", textContent: "more like this" });
  alike.addEventListener("click", () => like(hit.id, hit.best ?? 0));
  below.append(alike);
  about.append(below);
  return element("li", { className: "hit" }, poster, about);
}
