// How a Node program times itself, and the functions that all programs apply; the same as measure.py.
'use strict';

const plusOne = (n) => n + 1;
const twice = (n) => n * 2;
const isKept = (n) => n % 3 !== 0;

function tell(runs, wall, cpu, result) {
  const seconds = (cpu.user + cpu.system) / 1e6;
  console.log(JSON.stringify({ runs, wall: Number(wall) / 1e9, cpu: seconds, result }));
}

async function repeated(job, count, seconds) {
  await job(Math.max(1, Math.floor(count / 20)));
  let runs = 0;
  let took;
  let result;
  const cpu = process.cpuUsage();
  const wall = process.hrtime.bigint();
  do {
    result = await job(count);
    runs += 1;
    took = process.hrtime.bigint() - wall;
  } while (Number(took) < seconds * 1e9);
  tell(runs, took, process.cpuUsage(cpu), [result.length, result.reduce((a, b) => a + b, 0)]);
}

async function once(job) {
  const cpu = process.cpuUsage();
  const wall = process.hrtime.bigint();
  const result = await job();
  tell(1, process.hrtime.bigint() - wall, process.cpuUsage(cpu), result);
}

module.exports = { plusOne, twice, isKept, repeated, once };
