"""Send the paths of a directory's files to the workers of tasks.py.

python send.py DIRECTORY [REDIS_URL]
"""

import sys
from functools import partial
from pathlib import Path

import trio

from trioflow import redis


def paths_in(directory: str) -> list[str]:
    return sorted(str(path.resolve()) for path in Path(directory).iterdir() if path.suffix != ".sha256")


async def main(directory: str, url: str = "redis://127.0.0.1:6379") -> None:
    paths = await trio.to_thread.run_sync(paths_in, directory)
    async with redis.open_sender(url, "files", producer="send") as send:
        await send.send_many(paths[send.stored :])
    print(f"{len(paths)} files sent")


if __name__ == "__main__":
    trio.run(partial(main, *sys.argv[1:]))
