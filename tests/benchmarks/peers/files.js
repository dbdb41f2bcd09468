// Node: a log filtered, a file copied, packed and unpacked, records parsed and written, each by a pipeline.
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

async function* failures(input) {
  for await (const line of createInterface({ input, crlfDelay: Infinity })) {
    const record = JSON.parse(line);
    if (record.status >= 400) yield `${JSON.stringify(record)}\n`;
  }
}

const jobs = {
  log: () => pipeline(kept(createReadStream(source)), createWriteStream(target)),
  copy: () => pipeline(createReadStream(source), createWriteStream(target)),
  gzip: () => pipeline(createReadStream(source), zlib.createGzip({ level: 6 }), createWriteStream(target)),
  gunzip: () => pipeline(createReadStream(source), zlib.createGunzip(), createWriteStream(target)),
  json: () => pipeline(failures(createReadStream(source)), createWriteStream(target)),
};

once(jobs[job.split('-')[0]]);
