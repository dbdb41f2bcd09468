// Panel 1, and the curve of the server's memory.

import { ask, at, colour, number, onBeat, pause, pen, row, size, trying } from "./common.js";

const samples = []; // the last 30 seconds
let running = "";

function draw() {
  const [context, width, height] = pen(at("memory-plot"));
  const top = Math.max(96 * 2 ** 20, ...samples.map((sample) => sample.bytes)) * 1.1;
  const x = (i) => width - (samples.length - 1 - i) * (width / 300);
  const y = (bytes) => height - (bytes / top) * height;
  for (let i = 1; i < samples.length; i++) {
    const shade = colour(samples[i].running === "whole" ? "--full" : "--flow");
    context.beginPath();
    context.moveTo(x(i - 1), y(samples[i - 1].bytes));
    context.lineTo(x(i), y(samples[i].bytes));
    context.strokeStyle = shade;
    context.lineWidth = 2;
    context.stroke();
    context.lineTo(x(i), height);
    context.lineTo(x(i - 1), height);
    context.globalAlpha = 0.16;
    context.fillStyle = shade;
    context.fill();
    context.globalAlpha = 1;
  }
}

onBeat(({ memory }) => {
  samples.push({ bytes: memory, running });
  if (samples.length > 300) samples.shift();
  at("memory").value = size(memory);
  if (!document.hidden) draw();
});
addEventListener("resize", draw);

const crowds = new Map();

function show() {
  const most = Math.max(...[...crowds.values()].map((crowd) => crowd.grew), 1);
  at("crowds").replaceChildren(...[...crowds.values()].map(({ how, clients, took, grew }) => {
    const bar = document.createElement("span");
    bar.className = `bar ${how}`;
    bar.style.width = `${Math.max(1, (grew / most) * 55)}%`;
    const cell = document.createElement("span");
    cell.className = "measure";
    cell.append(bar, size(grew));
    return row(how, clients, took, cell);
  }));
}

async function serve(how) {
  const clients = number(at("clients"));
  const buttons = document.querySelectorAll("[data-crowd]");
  buttons.forEach((each) => (each.disabled = true));
  const before = samples.at(-1)?.bytes ?? 0;
  const crowd = { how, clients, took: "…", grew: 0 };
  crowds.delete(`${how} ${clients}`);
  crowds.set(`${how} ${clients}`, crowd);
  const peaking = setInterval(() => {
    crowd.grew = Math.max(crowd.grew, samples.at(-1).bytes - before);
    show();
  }, 100);
  running = how;
  try {
    const answer = await (await ask("crowd", { how, clients }, { method: "POST" })).json();
    crowd.took = `${answer.seconds.toFixed(1)} s`;
    await pause(300);
  } catch (error) {
    crowd.took = "failed";
    throw error;
  } finally {
    running = "";
    clearInterval(peaking);
    buttons.forEach((each) => (each.disabled = false));
    show();
  }
}

for (const button of document.querySelectorAll("[data-crowd]")) {
  button.addEventListener("click", () => trying(button, () => serve(button.dataset.crowd)));
}
for (const button of document.querySelectorAll("[data-clients]")) {
  button.addEventListener("click", () => {
    at("clients").value = button.dataset.clients;
    trying(button, () => number(at("clients")));
  });
}
at("whole").querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  trying(event.target, () => serve("piped"));
});
