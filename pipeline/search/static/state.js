// The page's whole state stands in its address, so that a link, a reload and the back button show the same.
// Only a picture does not fit there: this tab keeps it until it is closed.

export const at = (id) => document.getElementById(id);

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

export function clock(seconds) {
  const tenths = Math.round(Math.max(0, seconds) * 10), minutes = Math.floor(tenths / 600);
  const rest = ((tenths - 600 * minutes) / 10).toFixed(1).padStart(4, "0");
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

export function state() { return Object.fromEntries(new URLSearchParams(location.search)); }

export function address(values) {
  const kept = Object.entries(values).filter(([, value]) => value !== "" && value !== undefined && value !== null);
  return "?" + new URLSearchParams(kept);
}

export function remember(values, replace = false) {
  history[replace ? "replaceState" : "pushState"](null, "", address({ ...state(), ...values }));
}

export async function answer(path, options = {}) {
  const response = await fetch(path, options);
  const read = await response.json();
  if (!response.ok) throw new Error([read.error, read.fix].filter(Boolean).join(": "));
  return read;
}

// "like=ID@SECONDS": a moment of a video as the query.
export function moment(text) {
  const place = text.lastIndexOf("@");
  return { id: text.slice(0, place), time: text.slice(place + 1) };
}

const LONGEST_SIDE = 1024;  // pixels that are sent; no encoder looks at more

export async function keepPicture(file) {
  const image = await createImageBitmap(file);
  const scale = Math.min(1, LONGEST_SIDE / Math.max(image.width, image.height));
  const canvas = element("canvas", { width: Math.max(1, image.width * scale), height: Math.max(1, image.height * scale) });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  sessionStorage.setItem("picture", canvas.toDataURL("image/jpeg", 0.92));
}

export function picture() {
  const kept = sessionStorage.getItem("picture");
  if (!kept) throw new Error("This link was made with a picture, which is kept nowhere: drop it here again.");
  return new Blob([Uint8Array.from(atob(kept.split(",")[1]), (letter) => letter.charCodeAt(0))], { type: "image/jpeg" });
}

export async function copy(button, text) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "copied";
  } catch {
    window.prompt("The command:", text);
  }
  setTimeout(() => { button.textContent = label; }, 1500);
}
