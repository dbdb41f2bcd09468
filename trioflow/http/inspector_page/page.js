// The page: shows what the server sends twice a second, and keeps each run in its place.

import { Flow, make, percent, say, slowestOf } from "./flow.js";

const at = (id) => document.getElementById(id);
const OPEN = 4; // running runs that are expanded at first; the others expand on a click
const COLUMNS = [
  ["in", (stage) => (stage.taken ? whole(stage.taken) : "–")],
  ["out", (stage) => whole(stage.items)],
  ["items/s", (stage) => (stage.rate < 10 ? stage.rate.toFixed(1) : whole(stage.rate))],
  ["bytes", (stage) => (stage.bytes ? size(stage.bytes) : "–")],
  ["channel", (stage) => (stage.fill === null ? "–" : percent(stage.fill))],
  ["source wait", (stage) => percent(stage.source_wait)],
  ["reader wait", (stage) => percent(stage.reader_wait)],
  ["busy", (stage) => percent(stage.busy)],
];
const runs = new Map(); // by id
let told = null;
let source = null;

const whole = (number) => Math.round(number).toLocaleString("en");

function size(bytes) {
  const power = Math.min(4, Math.floor(Math.log2(Math.max(bytes, 1)) / 10));
  return `${(bytes / 1024 ** power).toFixed(power ? 1 : 0)} ${["B", "KiB", "MiB", "GiB", "TiB"][power]}`;
}

function lasted(seconds) {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

class Run {
  constructor(run, isOpen) {
    this.state = make("span", "badge");
    this.time = make("span", "time");
    this.slowest = make("span", "which");
    const names = make("span", "name", run.name);
    this.element = make("details", "run", make("summary", "", this.state, names, this.slowest, this.time));
    this.element.id = `run-${run.id}`;
    this.element.open = isOpen;
    this.element.addEventListener("toggle", () => this.draw());
    this.about = make("p", "about", `run ${run.id}, began ${new Date(run.began * 1000).toLocaleTimeString()}`);
    if (run.parent !== null) {
      const link = make("a", "", `run ${run.parent}`);
      link.href = `#run-${run.parent}`;
      this.about.append(", inside ", link);
    }
    this.failure = make("pre", "failure");
    this.failure.hidden = true;
    this.list = make("ol", "flow");
    this.list.setAttribute("aria-label", `Stages of run ${run.id}, and the channels between them`);
    this.flow = new Flow(this.list);
    this.rows = [];
    this.table = this.#tableOf(run);
    this.element.append(make("div", "inside", this.about, this.failure, make("div", "beside", this.list, this.table)));
  }

  // On a phone its rows are laid out as blocks, so screen readers need these roles to know that it is a table.
  #tableOf(run) {
    const cell = (name, role, text) => {
      const made = make(name, "", text);
      made.setAttribute("role", role);
      return made;
    };
    const row = (...cells) => {
      const made = make("tr", "", ...cells);
      made.setAttribute("role", "row");
      return made;
    };
    const head = make("thead", "", row(...["stage", ...COLUMNS.map(([name]) => name)].map((name) => cell("th", "columnheader", name))));
    const body = make("tbody");
    for (const stage of run.stages) {
      const cells = COLUMNS.map(([name]) => {
        const made = cell("td", "cell", "");
        made.dataset.label = name;
        return made;
      });
      this.rows.push(cells);
      body.append(row(cell("th", "rowheader", stage.name), ...cells));
    }
    for (const group of [head, body]) group.setAttribute("role", "rowgroup");
    const table = make("table", "", make("caption", "", `Numbers of run ${run.id}`), head, body);
    table.setAttribute("role", "table");
    return table;
  }

  show(run) {
    this.run = run;
    this.element.dataset.state = run.state;
    say(this.state, run.state);
    say(this.time, lasted(run.seconds));
    say(this.slowest, slowestOf(run).map((stage) => stage.name).join(", "));
    this.draw();
  }

  draw() {
    const run = this.run;
    if (!run || !this.element.open) return;
    this.failure.hidden = run.failure === null;
    say(this.failure, run.failure ?? "");
    this.flow.draw(run);
    run.stages.forEach((stage, i) => {
      COLUMNS.forEach(([, text], column) => say(this.rows[i][column], text(stage)));
    });
  }
}

function arrange(place, wanted) {
  wanted.forEach((element, i) => {
    if (place.children[i] !== element) place.insertBefore(element, place.children[i] ?? null);
  });
  while (place.children.length > wanted.length) place.lastChild.remove();
}

function show(look) {
  const seen = { running: [], ended: [] };
  for (const run of look.runs) {
    const isRunning = run.state === "running";
    let drawn = runs.get(run.id);
    if (!drawn) runs.set(run.id, (drawn = new Run(run, isRunning && seen.running.length < OPEN)));
    if (told && run.state === "failed" && drawn.run?.state !== "failed") tell(`run ${run.id} failed: ${run.name}`);
    drawn.show(run);
    seen[isRunning ? "running" : "ended"].push(drawn.element);
  }
  const ids = new Set(look.runs.map((run) => run.id));
  for (const id of runs.keys()) if (!ids.has(id)) runs.delete(id);
  arrange(at("running"), seen.running);
  arrange(at("ended"), seen.ended);
  say(at("running-count"), whole(look.running));
  const more = look.running - seen.running.length;
  say(at("more"), more > 0 ? `and ${whole(more)} more, begun later` : "");
  told = look;
}

const tell = (text) => say(at("said"), text);

function begin() {
  source = new EventSource("events");
  source.onopen = () => tell("live");
  source.onmessage = (event) => show(JSON.parse(event.data));
  source.onerror = () => tell("disconnected: the program has ended or does not respond");
  at("pause").textContent = "Pause";
}

function pause() {
  source.close();
  source = null;
  tell("paused");
  at("pause").textContent = "Resume";
}

at("pause").addEventListener("click", () => (source ? pause() : begin()));
begin();
