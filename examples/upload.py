"""A form with a file: the file goes to disk as it arrives, under a name of your own, never whole in memory.

Node: none; a package such as busboy.
"""

import tempfile
from pathlib import Path

import trioflow as tf
from trioflow import http

DIRECTORY = Path(tempfile.mkdtemp())


async def handler(request: http.Request, response: http.Response) -> None:
    told = []
    async with http.form(request, file_size=1 << 30).open() as parts:
        async for part in parts:
            if part.filename is None:
                told.append(f"{part.name}: {part.value}")
            else:  # the client chose its name, so never write to it
                size = await part.body.pipe(tf.write_file(DIRECTORY / str(len(told))))
                told.append(f"{part.name}: {size} bytes of {part.filename!r}")
    await response.send("\n".join([*told, ""]).encode())


http.run(handler, port=8000)

# Prints:
# $ printf hello | curl -s http://127.0.0.1:8000/ -F title=Greeting -F "text=@-;filename=../a.txt"
# title: Greeting
# text: 5 bytes of '../a.txt'
