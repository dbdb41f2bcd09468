// Shared by all panels: elements, requests that report errors, the page's status updates.

export const at = (id) => document.getElementById(id);
export const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
export const visit = [...crypto.getRandomValues(new Uint32Array(4))].map((n) => n.toString(36)).join("");
export const whole = (number) => Math.round(number).toLocaleString("en");

export function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  const power = Math.min(3, Math.floor(Math.log2(bytes) / 10));
  return `${(bytes / 1024 ** power).toFixed(1)} ${["", "KiB", "MiB", "GiB"][power]}`;
}

export function url(path, query = {}) {
  return `${path}?${new URLSearchParams({ visit, ...query })}`;
}

// Send a request; throw the server's message if it fails.
export async function ask(path, query, options) {
  const response = await fetch(url(path, query), options).catch((error) => {
    throw error.name === "AbortError" ? error : new Error("the server does not answer");
  });
  if (!response.ok) throw new Error((await response.text()).trim());
  return response;
}

// Run an action, and show its error in the panel of the element.
export async function trying(element, action) {
  const place = element.closest(".card").querySelector(".wrong");
  place.textContent = "";
  try {
    return await action();
  } catch (error) {
    if (error.name !== "AbortError") place.textContent = error.message;
  }
}

// Return a field's whole number, or throw what is wrong with it.
export function number(field) {
  const [low, high] = [Number(field.min), Number(field.max)];
  const value = Number(field.value);
  const fits = field.value.trim() !== "" && Number.isInteger(value) && low <= value && value <= high;
  field.setAttribute("aria-invalid", String(!fits));
  if (!fits) throw new Error(`${field.name} must be a whole number from ${whole(low)} to ${whole(high)}`);
  return value;
}

// Yield a response's lines as they arrive, each parsed.
export async function* values(response) {
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

export function row(...cells) {
  const made = document.createElement("tr");
  made.append(...cells.map((cell) => {
    const td = document.createElement("td");
    td.append(cell);
    return td;
  }));
  return made;
}

export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);

// Return a canvas's context, width and height, cleared and sharp on every screen.
export function pen(canvas) {
  const scale = devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * scale;
  canvas.height = canvas.clientHeight * scale;
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  return [context, canvas.clientWidth, canvas.clientHeight];
}

// The status updates: every listener is called with each.
const listeners = [];
export const onBeat = (listener) => listeners.push(listener);

const pulse = new EventSource(url("pulse"));
export const connected = new Promise((done) => pulse.addEventListener("message", done, { once: true }));
pulse.onmessage = (event) => {
  at("pulse-state").textContent = "live";
  const beat = JSON.parse(event.data);
  for (const listener of listeners) listener(beat);
};
pulse.onerror = () => (at("pulse-state").textContent = "the server has gone");
