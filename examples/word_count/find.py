"""Find the files of a directory, and send their paths to the programs that count.

    python find.py DIRECTORY [REDIS_URL]

At most 20 paths wait to be counted at any time. If this program is killed and started again, it continues where it was.
"""

import sys
from functools import partial
from pathlib import Path

import trio

from trioflow import redis


def paths_in(directory: str) -> list[str]:
    return sorted(str(path.resolve()) for path in Path(directory).rglob("*") if path.is_file())


async def main(directory: str, url: str = "redis://127.0.0.1:6379") -> None:
    paths = await trio.to_thread.run_sync(paths_in, directory)
    async with redis.open_sender(url, "files", capacity=20, producer="find") as send:
        await send.send_many(paths[send.stored :])
    print(f"{len(paths)} files sent")


if __name__ == "__main__":
    trio.run(partial(main, *sys.argv[1:]))
