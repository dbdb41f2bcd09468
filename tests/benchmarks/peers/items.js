// Node: object-mode Transforms in a pipeline, and a pipeline of async generators.
'use strict';

const { Readable, Transform, Writable } = require('node:stream');
const { pipeline } = require('node:stream/promises');
const { plusOne, twice, isKept, repeated } = require('./measure.js');

function* counted(count) {
  for (let number = 0; number < count; number++) yield number;
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

async function transforms(count) {
  const items = [];
  const sink = new Writable({
    objectMode: true,
    write(item, encoding, done) { items.push(item); done(); },
  });
  await pipeline(Readable.from(counted(count)), mapped(plusOne), mapped(twice), filtered(isKept), sink);
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
repeated({ transforms, generators }[variant], Number(count), Number(seconds));
