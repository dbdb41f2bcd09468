// Node: a log filtered, a file copied, packed and unpacked, each by a pipeline.
'use strict';

const { createReadStream, createWriteStream } = require('node:fs');
const { createInterface } = require('node:readline');
const { pipeline } = require('node:stream/promises');
const zlib = require('node:zlib');
const { once } = require('./measure.js');

const [job, source, target] = process.argv.slice(2);

async function* kept(input) {
  for await (const line of createInterface({ input, crlfDelay: Infinity })) {
    if (line.includes(' 500 ')) yield `${line}\n`;
  }
}

const jobs = {
  log: () => pipeline(kept(createReadStream(source)), createWriteStream(target)),
  copy: () => pipeline(createReadStream(source), createWriteStream(target)),
  gzip: () => pipeline(createReadStream(source), zlib.createGzip({ level: 6 }), createWriteStream(target)),
  gunzip: () => pipeline(createReadStream(source), zlib.createGunzip(), createWriteStream(target)),
};

once(jobs[job]);
