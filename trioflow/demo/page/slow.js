// Panel 4: stages, the channels between them, and which of them wait, drawn as the inspector does.

import { ask, at, trying, url } from "./common.js";
import { Flow } from "./inspector/flow.js";

const flow = new Flow(at("flow"));
let looking = null;

function draw({ runs: [run] }) {
  if (!run) return;
  flow.draw(run);
  const [source, squares] = run.stages;
  const stopped = source.fill > 0.9 && squares.fill > 0.9 && source.reader_wait > 0.5;
  at("slow-verdict").textContent = stopped
    ? "both channels are full: the source has stopped, and makes one number each time the reader takes one"
    : squares.fill > 0.9 ? "the channel before the reader is full, and the one before that is filling" : "there is room: the source makes 50 a second";
}

const keepPace = () => ask("pace", { per_second: at("pace").value }, { method: "POST" });

async function start() {
  await keepPace();
  looking = new EventSource(url("slow-reader"));
  looking.onmessage = (event) => draw(JSON.parse(event.data));
  looking.onerror = stop; // or it would reconnect by itself
  at("slow-toggle").textContent = "Stop";
}

function stop() {
  looking?.close();
  looking = null;
  at("slow-toggle").textContent = "Start";
  at("slow-verdict").textContent = "stopped: the reader has left, so its source has ended, too";
}

at("slow-toggle").addEventListener("click", () => trying(at("slow-toggle"), looking ? stop : start));
at("pace").addEventListener("input", () => (at("pace-shown").value = at("pace").value));
at("pace").addEventListener("change", () => trying(at("pace"), keepPace));
