"""A server that reads a whole file before it answers: fine for small files; for others, see file_server.py.

Node: fs.readFile(path, (err, data) => res.end(data)).
"""

from pathlib import Path

import trio

from trioflow import http


async def handler(request: http.Request, response: http.Response) -> None:
    song = await trio.Path("song.txt").read_bytes()  # the whole file is in memory, once for each client
    response.headers["content-type"] = "text/plain"
    await response.send(song)


Path("song.txt").write_text("la la la\n")
http.run(handler, port=8000)

# Prints:
# $ curl -s http://127.0.0.1:8000/
# la la la
