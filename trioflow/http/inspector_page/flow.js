// Draws one run: its stages as boxes, and the channels between them as gauges. The demo's slow reader uses it, too.

const whole = (number) => Math.round(number).toLocaleString("en");
export const percent = (part) => `${Math.round(part * 100)} %`;

// Set text only if it has changed, so that nothing is laid out or read aloud again, and no selection is lost.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function make(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

// Stages with no channel between them run as one task: they work, wait and slow the others down together.
function tasksOf(stages) {
  const tasks = [[]];
  stages.forEach((stage, i) => {
    tasks.at(-1).push(stage);
    if (stage.fill !== null && i < stages.length - 1) tasks.push([]);
  });
  return tasks;
}

// The stages of the task that the others wait for; none if the run has only one task.
export function slowestOf(run) {
  const tasks = tasksOf(run.stages);
  return tasks.length > 1 ? tasks.find((task) => task.includes(run.stages[run.slowest])) : [];
}

// Say what a task spends its time on.
function stateOf({ source_wait, reader_wait, busy }) {
  if (reader_wait > 0.5) return "waits for its reader";
  if (source_wait > 0.5) return "waits for its source";
  return `busy ${percent(busy)}`;
}

export class Flow {
  #list;
  #drawn = "";
  #tasks = [];
  #channels = [];

  constructor(list) {
    this.#list = list;
  }

  draw(run) {
    const tasks = tasksOf(run.stages);
    const shape = JSON.stringify([tasks.map((task) => task.map((stage) => stage.name)), run.stages.at(-1)?.fill === null]);
    if (shape !== this.#drawn) this.#build(tasks);
    this.#drawn = shape;
    const [slowest] = slowestOf(run);
    tasks.forEach((task, i) => {
      const [box, counts, state] = this.#tasks[i];
      task.forEach((stage, place) => say(counts[place], whole(stage.items)));
      const told = stateOf(task[0]);
      say(state, run.state === "running" ? told : "");
      box.classList.toggle("waits", told.startsWith("waits"));
      box.classList.toggle("slowest", task[0] === slowest);
      const fill = task.at(-1).fill;
      if (fill === null) return;
      const [channel, gauge, part] = this.#channels[i];
      channel.classList.toggle("full", fill > 0.9);
      gauge.setAttribute("aria-valuenow", Math.round(fill * 100));
      gauge.firstChild.style.setProperty("--fill", Math.min(fill, 1));
      say(part, percent(fill));
    });
  }

  #build(tasks) {
    this.#tasks = [];
    this.#channels = [];
    this.#list.replaceChildren();
    for (const task of tasks) {
      const counts = task.map(() => make("span", "count"));
      const state = make("span", "state");
      const rows = task.map((stage, i) => make("span", "stage", make("b", "", stage.name), " ", counts[i]));
      const box = make("li", "task", ...rows, state, make("span", "mark", "the others wait for it"));
      this.#tasks.push([box, counts, state]);
      this.#list.append(box);
      if (task.at(-1).fill === null) continue;
      const gauge = make("span", "gauge", make("i"));
      const part = make("span", "count");
      for (const [name, value] of Object.entries({
        role: "meter", "aria-label": `channel after ${task.at(-1).name}`, "aria-valuemin": 0, "aria-valuemax": 100,
      })) gauge.setAttribute(name, value);
      const channel = make("li", "channel", gauge, part);
      this.#channels[this.#tasks.length - 1] = [channel, gauge, part];
      this.#list.append(channel);
    }
    if (tasks.at(-1).at(-1)?.fill != null) this.#list.append(make("li", "outside", "your code, which reads the result"));
  }
}
