// Panel 4: stages, the channels between them, and who waits.

import { ask, at, trying, url } from "./common.js";

const CAPACITY = 32;
const NAMES = ["source", "squares", "reader"];
let looking = null;
let before = null;

const stages = NAMES.map((name) => {
  const made = document.createElement("li");
  made.className = "stage";
  made.innerHTML = `<b>${name}</b> <output>0</output> <span class="state"></span>`;
  return made;
});
const channels = [0, 1].map(() => {
  const made = document.createElement("li");
  made.className = "channel";
  made.append(...Array.from({ length: CAPACITY }, () => document.createElement("i")));
  return made;
});
at("flow").append(stages[0], channels[0], stages[1], channels[1], stages[2]);

function draw(look) {
  look.stages.forEach((stage, i) => {
    const [count, state] = stages[i].querySelectorAll("output, .state");
    count.value = stage.items.toLocaleString("en");
    // The parts are of all the time since the run began: what matters is the last look.
    const waited = (which) => stage[which] * look.seconds - (before ? before.stages[i][which] * before.seconds : 0);
    const lasted = look.seconds - (before?.seconds ?? 0);
    const waits = waited("reader_wait") > lasted * 0.5 ? "waits for its reader" : waited("source_wait") > lasted * 0.5 ? "waits for its source" : "";
    state.textContent = waits;
    stages[i].classList.toggle("waits", waits.includes("reader"));
    if (i > 1) return;
    const held = Math.round(stage.fill * CAPACITY);
    channels[i].title = `${held} of ${CAPACITY}`;
    channels[i].classList.toggle("full", held >= CAPACITY - 1);
    [...channels[i].children].forEach((cell, place) => cell.classList.toggle("held", place < held));
  });
  const [source, squares] = look.stages;
  const stopped = source.fill >= 1 && stages[0].classList.contains("waits");
  at("slow-verdict").textContent = stopped
    ? "both channels are full: the source has stopped, and goes on one number at a time, as the reader takes one"
    : squares.fill > 0.9 ? "the channel before the reader is full; the one before that fills" : "there is room: the source makes 50 a second";
  before = look;
}

const keepPace = () => ask("pace", { per_second: at("pace").value }, { method: "POST" });

async function start() {
  await keepPace();
  before = null;
  looking = new EventSource(url("slow-reader"));
  looking.onmessage = (event) => draw(JSON.parse(event.data));
  looking.onerror = stop; // it would begin anew by itself
  at("slow-toggle").textContent = "Stop";
}

function stop() {
  looking?.close();
  looking = null;
  at("slow-toggle").textContent = "Start";
  at("slow-verdict").textContent = "stopped: the reader has left, and with it went its source";
}

at("slow-toggle").addEventListener("click", () => trying(at("slow-toggle"), looking ? stop : start));
at("pace").addEventListener("input", () => (at("pace-shown").value = at("pace").value));
at("pace").addEventListener("change", () => trying(at("pace"), keepPace));
