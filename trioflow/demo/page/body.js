// Panel 5: an upload with its digest, and bytes that must be text.

import { ask, at, onBeat, size, trying } from "./common.js";

const MOST = 2 ** 30;
let sending = null;
const hex = (buffer) => [...new Uint8Array(buffer)].map((byte) => byte.toString(16).padStart(2, "0")).join("");

onBeat(({ upload }) => {
  if (!sending || upload.bytes === undefined) return;
  at("upload-progress").value = upload.bytes / (sending.size || 1);
  at("upload-digest").value = upload.sha256;
});

async function upload(blob) {
  const verdict = at("upload-verdict");
  if (sending) throw new Error("an upload is in progress; wait until it ends");
  if (blob.size > MOST) throw new Error(`the file has ${size(blob.size)}; the server accepts at most ${size(MOST)}`);
  verdict.textContent = `sending ${size(blob.size)}`;
  at("upload-progress").value = 0;
  sending = blob;
  try {
    const answer = await (await ask("upload", {}, { method: "POST", body: blob })).json();
    at("upload-progress").value = 1;
    at("upload-digest").value = answer.sha256;
    verdict.textContent = `${size(answer.bytes)} written to disk`;
    if (crypto.subtle && blob.size <= 2 ** 28) {
      const own = hex(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer()));
      verdict.textContent += own === answer.sha256 ? "; this browser computes the same digest" : "; this browser computes another digest";
    }
  } catch (error) {
    verdict.textContent = "the upload failed";
    throw error;
  } finally {
    sending = null;
  }
}

at("upload-file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  event.target.value = ""; // so that the same file can be chosen again
  if (file) trying(at("upload-file"), () => upload(file));
});
at("upload-made").addEventListener("click", () => {
  const block = crypto.getRandomValues(new Uint8Array(2 ** 16));
  trying(at("upload-made"), () => upload(new Blob(Array(2 ** 10).fill(block))));
});

function bytes(text) {
  const digits = text.replace(/[\s,]|0x/gi, "");
  if (digits === "") throw new Error("enter at least one byte, such as c3 a9");
  if (!/^[0-9a-f]+$/i.test(digits)) throw new Error("write the bytes with 0 to 9 and a to f, such as c3 a9");
  if (digits.length % 2) throw new Error("a digit is missing; write each byte with two, such as 0a");
  return Uint8Array.from(digits.match(/../g), (pair) => parseInt(pair, 16));
}

at("echo-form").addEventListener("submit", (event) => {
  event.preventDefault();
  at("echo-back").textContent = "\u00a0";
  trying(event.target, async () => {
    const response = await fetch("echo", { method: "POST", body: bytes(at("echo-hex").value) });
    at("echo-back").textContent = `${response.status}: ${await response.text()}`;
  });
});
