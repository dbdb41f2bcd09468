"""anyio: a log filtered, line by line, by its own asynchronous files."""

import sys

import anyio
from measure import once


async def log() -> None:
    async with (
        await anyio.open_file(source, encoding="utf-8", newline="\n") as lines,
        await anyio.open_file(target, "w", encoding="utf-8") as output,
    ):
        async for line in lines:
            if " 500 " in line:
                await output.write(line)


_, source, target = sys.argv[1:]
anyio.run(once, log)
