"""Trio alone: a file copied by its own asynchronous files."""

import sys

import trio
from measure import once


async def copy() -> None:
    async with await trio.open_file(source, "rb") as whole, await trio.open_file(target, "wb") as output:
        while chunk := await whole.read(65536):
            await output.write(chunk)


_, source, target = sys.argv[1:]
trio.run(once, copy)
