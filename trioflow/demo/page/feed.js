// Panel 7: a feed to join and leave, an endless list, and the sources of both.

import { ask, at, colour, number, onBeat, pen, row, trying, url, values } from "./common.js";

const levels = [];
let feed = null;

function draw() {
  const [context, width, height] = pen(at("feed-plot"));
  context.beginPath();
  levels.forEach((level, i) => context.lineTo((i + 1) * (width / 120), height - (level / 6.2) * height));
  context.strokeStyle = colour("--flow");
  context.lineWidth = 2;
  context.lineJoin = "round";
  context.stroke();
}

function leave() {
  feed?.close();
  feed = null;
  at("feed-toggle").textContent = "Join the feed";
}

function join() {
  feed = new EventSource(url("feed"));
  at("feed-toggle").textContent = "Leave";
  feed.onmessage = (event) => {
    levels.push(Number(event.data));
    if (levels.length > 120) levels.shift();
    at("level").value = event.data;
    draw();
  };
}

at("feed-toggle").addEventListener("click", () => (feed ? leave() : join()));
addEventListener("resize", draw);

let shown = "";
onBeat(({ sources }) => {
  if (sources.length === 0 || JSON.stringify(sources) === shown) return;
  shown = JSON.stringify(sources);
  at("sources").replaceChildren(...[...sources].reverse().map(({ name, made, running }) => {
    const state = document.createElement("span");
    state.className = running ? "runs" : "stopped";
    state.textContent = running ? "running" : "stopped";
    return row(name, made, state);
  }));
});

// The list: its next part is requested when you scroll near the end.
const list = at("list");
let from = 2;
let loading = null;
let isOpen = false;

const isNearEnd = () => list.scrollTop + list.clientHeight > list.scrollHeight - 120;

async function load() {
  if (loading || !isOpen) return;
  const mine = (loading = new AbortController());
  try {
    while (isOpen && isNearEnd() && from <= 1000000) {
      for await (const { number, factors } of values(await ask("list", { start: from }, mine))) {
        const entry = document.createElement("li");
        entry.textContent = `${number.toLocaleString("en")} = ${factors.join(" · ")}${factors.length === 1 ? ", a prime" : ""}`;
        list.append(entry);
        from = number + 1;
      }
    }
  } finally {
    if (loading === mine) loading = null;
  }
}

function leaveList() {
  loading?.abort();
  loading = null;
  isOpen = false;
  at("list-leave").disabled = true;
}

at("list-form").addEventListener("submit", (event) => {
  event.preventDefault();
  trying(list, async () => {
    from = number(at("list-start"));
    leaveList();
    list.replaceChildren();
    isOpen = true;
    at("list-leave").disabled = false;
    await load();
  });
});
list.addEventListener("scroll", () => trying(list, load));
at("list-leave").addEventListener("click", leaveList);
