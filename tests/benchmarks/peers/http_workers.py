"""Ours, from several processes: `http_workers.py DIRECTORY WORKERS`."""

import json
import math
import sys
from functools import partial

import trio

from trioflow import http


async def main() -> None:
    serve = partial(
        http.serve,
        http.files(sys.argv[1]),
        port=0,
        limits=http.Limits(connections=math.inf, per_client=math.inf),
        workers=int(sys.argv[2]),
    )
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(serve)
        print(json.dumps({"port": int(url.rpartition(":")[2])}), flush=True)


if __name__ == "__main__":
    trio.run(main)
