// The page: the source code beside each example, and the panels.

import { ask } from "./common.js";
import "./whole.js";
import "./media.js";
import "./slow.js";
import "./body.js";
import "./change.js";
import "./feed.js";

const TOKEN = /(#.*)|("[^"]*"|'[^']*')|\b(async|await|def|for|in|with|as|return|yield|if|else|while|try|except|finally|raise|from|or|not|is|None|True|False|nonlocal|lambda)\b/g;

function coloured(code) {
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

for (const place of document.querySelectorAll("[data-source]")) {
  ask("source", { of: place.dataset.source })
    .then((response) => response.text())
    .then((code) => place.replaceChildren(...coloured(code.trimEnd())))
    .catch((error) => (place.textContent = error.message));
}
