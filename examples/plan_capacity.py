"""How many workers do you need? Simulate first, then run the same jobs at the same times in real processes.

Node: none.
"""

import heapq
import random
import time
from collections.abc import Sequence

import trio

import trioflow as tf

RATE, JOBS, WORK = 60.0, 180, 0.03  # jobs a second, how many, seconds of work on average
HOP = 0.002  # seconds for a job to reach a worker and its result to return
MOST = 0.25  # the goal: seconds, waiting included, within which 95 % of the jobs should be done

Job = tuple[float, float]  # when it arrives, how long it takes


def made_up(seed: int) -> list[Job]:
    """Return jobs that arrive at random and take a random time."""
    chance, now = random.Random(seed), 0.0
    return [(now := now + chance.expovariate(RATE), chance.expovariate(1 / WORK)) for _ in range(JOBS)]


def simulated(jobs: Sequence[Job], workers: int) -> list[float]:
    """Return how long each job took from its arrival: each goes to the worker that is free first."""
    free = [0.0] * workers
    took = []
    for comes, work in jobs:
        done = max(comes, heapq.heappop(free)) + HOP + work
        heapq.heappush(free, done)
        took.append(done - comes)
    return took


def work_on(job: Job) -> Job:
    time.sleep(job[1])
    return job


async def measured(jobs: Sequence[Job], workers: int) -> list[float]:
    """Return the same, measured in a run with this many processes."""
    start, took = 0.0, list[float]()
    are_there = trio.Event()

    async def come(output: tf.SendChannel[Job]) -> None:
        nonlocal start
        await output.send_many([(0.0, 0.0)] * workers)  # each of these starts a process
        await are_there.wait()
        start = trio.current_time()
        for job in jobs:
            await trio.sleep_until(start + job[0])
            await output.send(job)

    async with tf.Readable(come).pipe(tf.map_in_processes(work_on, workers=workers, ordered=False)).open() as done:
        for _ in range(workers):
            await done.receive()
        are_there.set()
        async for comes, _ in done:
            took.append(trio.current_time() - start - comes)
    return took


def within(took: Sequence[float], part: float) -> float:
    """Return the time within which this part of the jobs was done."""
    return sorted(took)[int(len(took) * part)]


def agree(predicted: float, seen: float) -> bool:
    return abs(predicted - seen) <= 0.06 + 0.25 * predicted


async def main() -> None:
    jobs = made_up(seed=0)
    for workers in (2, 4):
        predicted, seen = simulated(jobs, workers), await measured(jobs, workers)
        print(f"{workers} workers are {'enough' if within(predicted, 0.95) <= MOST else 'too few'}:")
        for part in (0.5, 0.95):
            print(f"  {part:.0%} of the jobs: {within(predicted, part):.3f} s, measured {within(seen, part):.3f} s")
        print(" ", "as predicted" if agree(within(predicted, 0.5), within(seen, 0.5)) else "not as predicted")


if __name__ == "__main__":
    trio.run(main)

# Prints:
# 2 workers are too few:
#   50% of the jobs: 0.157 s, measured ... s
#   95% of the jobs: 0.341 s, measured ... s
#   ...as predicted
# 4 workers are enough:
#   50% of the jobs: 0.025 s, measured ... s
#   95% of the jobs: 0.117 s, measured ... s
#   ...as predicted
