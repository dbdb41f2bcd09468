"""aiofiles: a log filtered, line by line."""

import asyncio
import sys

import aiofiles
from measure import once


async def log() -> None:
    async with (
        aiofiles.open(source, encoding="utf-8", newline="\n") as lines,
        aiofiles.open(target, "w", encoding="utf-8") as output,
    ):
        async for line in lines:
            if " 500 " in line:
                await output.write(line)


_, source, target = sys.argv[1:]
asyncio.run(once(log))
