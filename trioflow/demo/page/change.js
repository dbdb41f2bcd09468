// Panel 6: each piece goes in a request of its own; the changed pieces come back in one answer.

import { ask, at, size, trying } from "./common.js";

const PIECE = 2 ** 16;
const SHOWN = 4000; // characters
const MOST = 2 ** 28;
let session = null;

function tell({ sent, got }) {
  at("change-sent").value = size(sent);
  at("change-got").value = size(got);
}

async function read(mine, response) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  for (let part; !(part = await reader.read()).done; ) {
    mine.got += part.value.length;
    mine.parts.push(part.value);
    const more = mine.how === "gzip"
      ? [...part.value.subarray(0, 200)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ") + (part.value.length > 200 ? " …\n" : " ")
      : decoder.decode(part.value, { stream: true });
    at("change-back").textContent = (at("change-back").textContent + more).slice(-SHOWN);
    at("change-back").scrollTop = at("change-back").scrollHeight;
    tell(mine);
  }
}

// The session of the chosen transform: the current one, or a new one.
async function open() {
  const how = new FormData(at("change-form")).get("how");
  if (session?.how === how) return session;
  await close();
  const mine = { how, sent: 0, got: 0, parts: [], leaving: new AbortController() };
  at("change-back").textContent = "";
  at("change-save").hidden = true;
  tell(mine);
  const response = await ask("changed", { how }, { signal: mine.leaving.signal });
  mine.reading = read(mine, response);
  mine.reading.catch(() => {}); // `close` reports it
  session = mine;
  at("change-end").disabled = false;
  return mine;
}

async function send(mine, blob) {
  await ask("piece", {}, { method: "POST", body: blob });
  mine.sent += blob.size;
  tell(mine);
}

async function close() {
  const mine = session;
  session = null;
  at("change-end").disabled = true;
  if (!mine) return;
  try {
    await ask("piece", { last: 1 }, { method: "POST" });
    await mine.reading;
  } catch (error) {
    mine.leaving.abort();
    throw error;
  }
  if (mine.how === "gzip") {
    URL.revokeObjectURL(at("change-save").href);
    at("change-save").href = URL.createObjectURL(new Blob(mine.parts));
    at("change-save").hidden = false;
  }
}

async function sendFile(file) {
  if (file.size > MOST) throw new Error(`the file has ${size(file.size)}; this page keeps at most ${size(MOST)}`);
  await close();
  const mine = await open();
  for (let start = 0; start < file.size; start += PIECE) await send(mine, file.slice(start, start + PIECE));
  await close();
}

let queue = Promise.resolve(); // runs one thing at a time
const next = (action) => (queue = queue.then(() => trying(at("change-form"), action)));

at("change-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const line = at("change-line").value;
  next(async () => {
    if (line === "") throw new Error("the line is empty; type one");
    await send(await open(), new Blob([`${line}\n`]));
  });
  at("change-line").select();
});
at("change-end").addEventListener("click", () => next(close));
at("change-file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  event.target.value = "";
  if (file) next(() => sendFile(file));
});

const drop = at("drop");
for (const kind of ["dragenter", "dragover"]) {
  drop.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const [file] = event.dataTransfer.files;
  next(() => {
    if (!file) throw new Error("that is not a file; drop a file");
    return sendFile(file);
  });
});

at("shout-curl").textContent = `curl -NT - ${new URL("shout", location)}`;
