// Node: object-mode Transforms in a pipeline, two sources piped into one, and a pipeline of async generators.
'use strict';

const { PassThrough, Readable, Transform, Writable } = require('node:stream');
const { pipeline } = require('node:stream/promises');
const { plusOne, twice, isKept, repeated } = require('./measure.js');

function* counted(count, start = 0, step = 1) {
  for (let number = start; number < count; number += step) yield number;
}

const mapped = (fn) => new Transform({
  objectMode: true,
  transform(item, encoding, done) { done(null, fn(item)); },
});

const filtered = (fn) => new Transform({
  objectMode: true,
  transform(item, encoding, done) {
    if (fn(item)) this.push(item);
    done();
  },
});

function merged(count) {
  const both = new PassThrough({ objectMode: true });
  let left = 2;
  for (const start of [0, 1]) {
    const source = Readable.from(counted(count, start, 2));
    source.on('end', () => { left -= 1; if (!left) both.end(); });
    source.pipe(both, { end: false });
  }
  return transformed(both);
}

const transforms = (count) => transformed(Readable.from(counted(count)));

async function transformed(source) {
  const items = [];
  const sink = new Writable({
    objectMode: true,
    write(item, encoding, done) { items.push(item); done(); },
  });
  await pipeline(source, mapped(plusOne), mapped(twice), filtered(isKept), sink);
  return items;
}

async function generators(count) {
  const items = [];
  await pipeline(
    counted(count),
    async function* (source) { for await (const item of source) yield plusOne(item); },
    async function* (source) { for await (const item of source) yield twice(item); },
    async function* (source) { for await (const item of source) if (isKept(item)) yield item; },
    async (source) => { for await (const item of source) items.push(item); },
  );
  return items;
}

const [variant, count, seconds] = process.argv.slice(2);
repeated({ transforms, merged, generators }[variant], Number(count), Number(seconds));
