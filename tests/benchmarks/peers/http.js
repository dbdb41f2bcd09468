// Node: createReadStream().pipe(res), and the same with transforms in between.
'use strict';

const { createReadStream, createWriteStream, stat } = require('node:fs');
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
  else file(req.url, res);
});
server.requestTimeout = 0;
server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => {
  console.log(JSON.stringify({ port: server.address().port }));
});
