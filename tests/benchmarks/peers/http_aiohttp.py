"""aiohttp: static files, and a body written as it arrives."""

import json
import socket
import sys
from pathlib import Path

from aiohttp import web

root = Path(sys.argv[1])


async def upload(request: web.Request) -> web.Response:
    size = 0
    with open(root / "upload.bin", "wb") as file:  # noqa: ASYNC230 - the fastest that its users write
        async for chunk in request.content.iter_any():
            size += file.write(chunk)
    return web.Response(text=str(size))


sock = socket.create_server(("127.0.0.1", 0), backlog=4096)
print(json.dumps({"port": sock.getsockname()[1]}), flush=True)
app = web.Application()
app.router.add_post("/upload", upload)
app.router.add_static("/", root)
web.run_app(app, sock=sock, access_log=None, print=None)
