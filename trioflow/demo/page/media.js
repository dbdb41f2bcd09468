// Panels 2 and 3: a picture as it arrives, and the ranges that a player requests.

import { at, connected, onBeat, row, trying, url, whole } from "./common.js";

async function send() {
  at("picture-shown").removeAttribute("src"); // otherwise the old picture stays until the new one arrives
  await new Promise(requestAnimationFrame);
  at("picture-shown").src = url("picture", { size: at("size").value, pause: at("pause").value, again: Date.now() });
}

for (const id of ["size", "pause"]) {
  at(id).addEventListener("input", () => (at(`${id}-shown`).value = whole(at(id).value)));
  at(id).addEventListener("change", send);
}
at("picture-start").addEventListener("click", send);
at("picture-shown").addEventListener("error", () =>
  trying(at("picture-shown"), () => {
    throw new Error("the picture did not arrive; is the server still running?");
  }),
);

new IntersectionObserver((entries, observer) => {
  if (!entries.some((entry) => entry.isIntersecting)) return;
  observer.disconnect();
  connected.then(send);
}).observe(at("picture-shown"));

// Media are loaded when you scroll near them.
new IntersectionObserver(
  (entries, observer) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    connected.then(() => {
      at("clip").src = url("media/clip.mp4");
      at("melody").src = url("media/melody.mp3");
    });
  },
  { rootMargin: "200px" },
).observe(at("media"));

for (const id of ["clip", "melody"]) {
  at(id).addEventListener("error", () =>
    trying(at(id), () => {
      throw new Error(`the ${id} cannot be played: ${at(id).error?.message || "the server does not answer"}`);
    }),
  );
}

let shown = "";

onBeat(({ picture, ranges }) => {
  at("picture-chunks").value = whole(picture.chunks);
  at("picture-bytes").value = whole(picture.bytes);
  if (ranges.length === 0 || JSON.stringify(ranges) === shown) return;
  shown = JSON.stringify(ranges);
  at("ranges").replaceChildren(...ranges.map(({ file, asked, sent }) => row(file.split("/").at(-1), asked, sent)));
  at("clip-strip").replaceChildren(...ranges.flatMap(({ file, sent }) => {
    const [, first, last, total] = sent.match(/bytes (\d+)-(\d+)\/(\d+)/) ?? [];
    if (!file.endsWith("clip.mp4") || total === undefined) return [];
    const part = document.createElement("i");
    part.style.left = `${(first / total) * 100}%`;
    part.style.width = `${((last - first + 1) / total) * 100}%`;
    return [part];
  }));
});
