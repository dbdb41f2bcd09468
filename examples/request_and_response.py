"""Pipe a request into its response: the body comes back in upper case as it arrives; 400 if it is not text.

Node: req.setEncoding("utf8"), req.pipe(transform).pipe(res).
"""

import trioflow as tf
from trioflow import http


async def handler(request: http.Request, response: http.Response) -> None:
    try:
        await request.body.pipe(tf.decode()).pipe(tf.map(str.upper)).pipe(tf.encode()).pipe(response)
    except UnicodeDecodeError:
        response.status = 400
        await response.send(b"the body is not UTF-8\n")


http.run(handler, port=8000)

# Prints:
# $ curl -s --data-binary 'one stream' http://127.0.0.1:8000/
# ONE STREAM
# $ printf '\377' | curl -s --data-binary @- http://127.0.0.1:8000/
# the body is not UTF-8
