// Node: createReadStream().pipe(res), the same with transforms in between, a listing and a feed.
'use strict';

const { createReadStream, createWriteStream, stat } = require('node:fs');
const { readdir, stat: statOf } = require('node:fs/promises');
const { createServer } = require('node:http');
const { join, normalize } = require('node:path');
const { Transform } = require('node:stream');
const zlib = require('node:zlib');

const root = process.argv[2];

const same = () => new Transform({ transform(chunk, encoding, done) { done(null, chunk); } });

function upload(req, res) {
  const file = createWriteStream(join(root, 'upload.bin'));
  req.pipe(file).on('finish', () => res.end(String(file.bytesWritten)));
}

function packed(res) {
  res.writeHead(200, { 'Content-Type': 'text/plain; charset=utf-8', 'Content-Encoding': 'gzip' });
  createReadStream(join(root, 'file.txt')).pipe(zlib.createGzip({ level: 6 })).pipe(res);
}

function chain(res) {
  const source = createReadStream(join(root, 'file.bin'));
  res.on('close', () => source.destroy());
  source.pipe(same()).pipe(same()).pipe(same()).pipe(res);
}

const escaped = (text) => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

async function listing(url, res) {
  const path = join(root, normalize(url));
  const names = (await readdir(path)).sort();
  const rows = await Promise.all(names.map(async (name) => {
    const found = await statOf(join(path, name));
    const shown = escaped(found.isDirectory() ? `${name}/` : name);
    return `<tr><td><a href="${encodeURIComponent(name)}">${shown}</a><td>${found.size}<td>${found.mtime.toISOString()}\n`;
  }));
  res.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8' });
  res.end(`<!doctype html>\n<title>${escaped(url)}</title>\n<table>\n${rows.join('')}</table>\n`);
}

const readers = new Set();
let count = 0;
setInterval(() => {
  const event = `data: tick ${count}\n\n`;
  count += 1;
  for (const res of readers) {
    if (!res.writableNeedDrain) res.write(event); // a slow reader misses some
  }
}, 250);

function feed(res) {
  res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
  res.flushHeaders();
  readers.add(res);
  res.on('close', () => readers.delete(res));
}

function file(url, res) {
  const path = join(root, normalize(url));
  stat(path, (error, found) => {
    if (error) {
      res.writeHead(404).end();
      return;
    }
    res.writeHead(200, { 'Content-Type': 'application/octet-stream', 'Content-Length': found.size });
    const source = createReadStream(path);
    res.on('close', () => source.destroy()); // or a client that leaves leaves a descriptor behind
    source.pipe(res);
  });
}

const server = createServer((req, res) => {
  if (req.url === '/upload') upload(req, res);
  else if (req.url === '/gzip') packed(res);
  else if (req.url === '/chain') chain(res);
  else if (req.url === '/feed') feed(res);
  else if (req.url.endsWith('/')) listing(req.url, res).catch((error) => res.destroy(error));
  else file(req.url, res);
});
server.requestTimeout = 0;
server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => {
  console.log(JSON.stringify({ port: server.address().port }));
});
