"""Gzip on the fly: a response is compressed while it is produced, for clients that accept gzip.

Node: readable.pipe(zlib.createGzip()).pipe(res).
"""

import trioflow as tf
from trioflow import http


async def handler(request: http.Request, response: http.Response) -> None:
    numbers = tf.from_iterable(range(1, 100_001)).pipe(tf.map(str)).pipe(tf.encode(end="\n"))
    response.headers["content-type"] = "text/plain"
    response.headers["vary"] = "accept-encoding"
    if "gzip" in request.headers.get("accept-encoding", ""):
        response.headers["content-encoding"] = "gzip"
        numbers = numbers.pipe(tf.gzip())
    await numbers.pipe(response)


http.run(handler, port=8000)

# Prints:
# $ curl -s http://127.0.0.1:8000/ | wc -c
# 588895
# $ curl -s --compressed http://127.0.0.1:8000/ | wc -c
# 588895
# $ curl -s -H 'Accept-Encoding: gzip' http://127.0.0.1:8000/ | gunzip | tail -n 1
# 100000
