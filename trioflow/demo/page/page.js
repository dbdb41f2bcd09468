// The page: each part asks one handler of the server and draws what comes, as it comes.

const at = (id) => document.getElementById(id);
const mebibytes = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

// Give the JSON values of a response, line by line, as they arrive.
async function* values(path, options) {
  const response = await fetch(path, options);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
}

// Source, coloured a little.
const TOKEN = /(#.*)|("[^"]*"|'[^']*')|\b(async|await|def|for|in|with|as|return|yield|if|else|while|True|False|None|nonlocal|lambda)\b/g;

function colour(code) {
  const parts = [];
  let last = 0;
  for (const found of code.matchAll(TOKEN)) {
    const span = document.createElement("span");
    span.className = found[1] ? "note" : found[2] ? "string" : "word";
    span.textContent = found[0];
    parts.push(code.slice(last, found.index), span);
    last = found.index + found[0].length;
  }
  return [...parts, code.slice(last)];
}

async function show(place) {
  const names = place.dataset.source.split(" ").map((name) => `of=${name}`);
  const response = await fetch(`source?${names.join("&")}`);
  place.replaceChildren(...colour((await response.text()).trimEnd()));
}
document.querySelectorAll("[data-source]").forEach(show);

// The server's memory.
const samples = [];
let upload = {};

function draw() {
  const canvas = at("memory-plot");
  const scale = devicePixelRatio || 1;
  const width = (canvas.width = canvas.clientWidth * scale);
  const height = (canvas.height = canvas.clientHeight * scale);
  const style = getComputedStyle(document.documentElement);
  const pen = canvas.getContext("2d");
  const top = Math.max(64 * 2 ** 20, ...samples) * 1.1;
  const x = (i) => width - (samples.length - 1 - i) * (width / 300);
  const y = (bytes) => height - (bytes / top) * height;
  pen.beginPath();
  samples.forEach((bytes, i) => pen.lineTo(x(i), y(bytes)));
  pen.strokeStyle = style.getPropertyValue("--flow");
  pen.lineWidth = 2 * scale;
  pen.stroke();
  pen.lineTo(width, height);
  pen.lineTo(x(0), height);
  pen.globalAlpha = 0.15;
  pen.fillStyle = style.getPropertyValue("--flow");
  pen.fill();
  pen.globalAlpha = 1;
}

async function watch() {
  for (let beats = 0; ; await pause(1000)) {
    try {
      for await (const beat of values("pulse")) {
        at("pulse-state").textContent = "connected";
        at("beats").value = ++beats;
        upload = beat.upload;
        samples.push(beat.memory);
        if (samples.length > 300) samples.shift();
        at("memory").value = mebibytes(beat.memory);
        if (!document.hidden) draw();
      }
    } catch {
      // the server has gone: it may come back
    }
    at("pulse-state").textContent = "the server is gone";
  }
}
watch();
addEventListener("resize", draw);

// Whole, or piped.
for (const button of document.querySelectorAll("[data-load]")) {
  button.addEventListener("click", async () => {
    const buttons = document.querySelectorAll("[data-load]");
    const [received, took, grew] = document.querySelectorAll(`#row-${button.dataset.load} td`);
    buttons.forEach((each) => (each.disabled = true));
    const before = samples.at(-1) ?? 0;
    const started = performance.now();
    let bytes = 0;
    let most = 0;
    const peak = () => (most = Math.max(most, (samples.at(-1) ?? before) - before));
    try {
      const reader = (await fetch(button.dataset.load)).body.getReader();
      for (let part; !(part = await reader.read()).done; ) {
        bytes += part.value.length;
        received.textContent = mebibytes(bytes);
        peak();
      }
      took.textContent = `${((performance.now() - started) / 1000).toFixed(2)} s`;
      for (let i = 0; i < 3; i++, await pause(100)) peak();
      grew.textContent = mebibytes(most);
    } catch {
      took.textContent = "cut off";
    } finally {
      buttons.forEach((each) => (each.disabled = false));
    }
  });
}

// A slow reader.
at("cells").append(...Array.from({ length: 64 }, () => document.createElement("i")));
let reading = null;

const keepPace = () => fetch(`pace?per_second=${at("slow-rate").value}`, { method: "POST" });

async function read() {
  reading?.abort();
  const mine = (reading = new AbortController());
  at("slow-toggle").textContent = "Stop";
  try {
    await keepPace();
    for await (const { sent, held, taken } of values("slow-reader", mine)) {
      at("slow-sent").value = sent;
      at("slow-held").value = held;
      at("slow-taken").value = taken;
      at("cells").classList.toggle("full", held >= 63);
      [...at("cells").children].forEach((cell, i) => cell.classList.toggle("held", i < held));
    }
  } catch {
    // stopped, or the server has gone
  }
  if (reading === mine) {
    reading = null;
    at("slow-toggle").textContent = "Start";
  }
}

at("slow-toggle").addEventListener("click", () => (reading ? reading.abort() : read()));
at("slow-rate").addEventListener("input", () => (at("slow-rate-shown").value = at("slow-rate").value));
at("slow-rate").addEventListener("change", keepPace);

// An upload.
const hex = (buffer) => [...new Uint8Array(buffer)].map((byte) => byte.toString(16).padStart(2, "0")).join("");

async function send(blob) {
  const verdict = at("upload-verdict");
  verdict.textContent = `sending ${mebibytes(blob.size)}`;
  const drawing = setInterval(() => {
    at("upload-progress").value = (upload.bytes ?? 0) / (blob.size || 1);
    at("upload-digest").value = upload.sha256 ?? "";
  }, 50);
  try {
    const answer = await (await fetch("upload", { method: "POST", body: blob })).json();
    at("upload-progress").value = answer.bytes / (blob.size || 1);
    at("upload-digest").value = answer.sha256;
    verdict.textContent = `${mebibytes(answer.bytes)} digested`;
    if (crypto.subtle && blob.size <= 2 ** 28) {
      const own = hex(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer()));
      verdict.textContent += own === answer.sha256 ? ", and this browser agrees" : ", but this browser differs";
    }
  } catch {
    verdict.textContent = "the upload was cut off";
  } finally {
    clearInterval(drawing);
  }
}

at("upload-file").addEventListener("change", (event) => event.target.files[0] && send(event.target.files[0]));
at("upload-made").addEventListener("click", () => {
  const block = crypto.getRandomValues(new Uint8Array(2 ** 16));
  send(new Blob(Array(2 ** 10).fill(block)));
});

// There and back.
at("shout-curl").textContent = `curl -NT - ${new URL("shout", location)}`;
at("shout").addEventListener("click", async () => {
  const back = at("shout-back");
  at("shout").disabled = true;
  back.textContent = "";
  try {
    const response = await fetch("shout", { method: "POST", body: at("shout-text").value });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let part; !(part = await reader.read()).done; ) back.textContent += part.value;
  } catch {
    back.textContent += "\n(cut off)";
  } finally {
    at("shout").disabled = false;
  }
});
