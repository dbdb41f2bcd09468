"""A server that pipes a file into its response: the answer starts at once, and memory does not grow with the file.

Node: fs.createReadStream(path).pipe(res).
"""

from pathlib import Path

import trioflow as tf
from trioflow import http


async def handler(request: http.Request, response: http.Response) -> None:
    response.headers["content-type"] = "text/plain"
    await tf.read_file("song.txt").pipe(response)


Path("song.txt").write_text("la la la\n")
http.run(handler, port=8000)

# Prints:
# $ curl -s http://127.0.0.1:8000/
# la la la
