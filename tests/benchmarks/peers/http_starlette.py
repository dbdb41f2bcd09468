"""starlette, on uvicorn (with uvloop and httptools) or on hypercorn (on Trio)."""

import json
import logging
import socket
import sys
from pathlib import Path

import anyio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

root = Path(sys.argv[1])


async def upload(request: Request) -> PlainTextResponse:
    size = 0
    async with await anyio.open_file(root / "upload.bin", "wb") as file:
        async for chunk in request.stream():
            size += await file.write(chunk)
    return PlainTextResponse(str(size))


async def packed(request: Request) -> FileResponse:
    return FileResponse(root / "file.txt")


app = Starlette(
    routes=[
        Route("/upload", upload, methods=["POST"]),
        Route("/gzip", packed),
        Mount("/", StaticFiles(directory=root)),
    ],
    middleware=[Middleware(GZipMiddleware, compresslevel=6)] if sys.argv[3] == "gzip" else [],
)
logging.disable(logging.INFO)
sock = socket.create_server(("127.0.0.1", 0), backlog=4096)
print(json.dumps({"port": sock.getsockname()[1]}), flush=True)
if sys.argv[2] == "uvicorn":
    import uvicorn

    uvicorn.Server(uvicorn.Config(app, access_log=False, log_level="error")).run(sockets=[sock])
else:
    import hypercorn
    import hypercorn.trio
    import trio

    config = hypercorn.Config()
    config.bind = [f"fd://{sock.fileno()}"]
    trio.run(hypercorn.trio.serve, app, config)
