// The player beside the hits: plays from a moment, or says in words that it cannot and shows the moment's picture.
import { address, at, clock, copy } from "/static/state.js";
import { still } from "/static/hits.js";

let shown = null;

export function cue({ hit, model }, seconds) {
  const video = at("video"), source = `/video/${hit.video}${address({ model })}`;
  shown = { hit, model, seconds };
  at("player").hidden = false;
  document.body.classList.add("playing");
  at("playing").textContent = `${hit.file || hit.id}, from ${clock(seconds)}`;
  at("cut").hidden = !hit.moments[0]?.cut;
  if (video.getAttribute("src") !== source) {
    at("unplayable").hidden = at("poster").hidden = true;
    video.hidden = false;
    video.poster = still(hit, model, seconds);
    video.src = source;
  } else if (!at("unplayable").hidden) {
    unplayable();  // another moment of a video that was found not to play
  }
  const go = () => { video.currentTime = seconds; };
  if (video.readyState > 0) go(); else video.addEventListener("loadedmetadata", go, { once: true });
}

export function play(found, seconds) {
  cue(found, seconds);
  at("video").play().catch(() => undefined);
}

export function pause() {
  const video = at("video");
  if (video.paused) video.play().catch(() => undefined); else video.pause();
}

export function close() {
  at("video").pause();
  at("player").hidden = true;
  document.body.classList.remove("playing");
}

function unplayable() {
  if (!shown) return;
  at("video").hidden = true;
  at("poster").hidden = false;
  at("poster").src = still(shown.hit, shown.model, shown.seconds);
  at("unplayable").hidden = false;
  at("unplayable").textContent = "This browser cannot play the file's codec. The picture shows the moment; the ffmpeg command below cuts it out as H.264, which plays.";
}

at("video").addEventListener("error", () => { if (at("video").getAttribute("src")) unplayable(); });
// Sound without a picture: the codec of the video track is not known here, that of the sound is.
at("video").addEventListener("loadedmetadata", () => { if (!at("video").videoWidth) unplayable(); });
at("cut").addEventListener("click", () => {
  const now = at("video").hidden ? shown.seconds : at("video").currentTime;
  const moments = shown.hit.moments, playing = moments.find((one) => one.start <= now + 0.05 && now <= one.end);
  copy(at("cut"), (playing ?? moments[0]).cut);
});

export function instant() {
  return { id: shown.hit.id, seconds: at("video").hidden ? shown.seconds : at("video").currentTime };
}
