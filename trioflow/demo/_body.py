"""Request bodies as streams: an upload that goes to disk, and bytes that must be text."""

from __future__ import annotations

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import trioflow as tf
from trioflow import http
from trioflow.demo._asked import Refused, as_json
from trioflow.demo._visits import visit_of

ECHOED: Final = 1 << 20  # bytes: the whole body is kept until it is known to be text


async def upload(request: http.Request, response: http.Response) -> None:
    digest = hashlib.sha256()
    seen = visit_of(request).upload = {"bytes": 0, "sha256": digest.hexdigest()}

    def note(chunk: bytes) -> None:
        digest.update(chunk)
        seen["bytes"] += len(chunk)
        seen["sha256"] = digest.hexdigest()

    with TemporaryDirectory() as folder:
        file = tf.write_file(Path(folder) / "upload")
        await request.body.pipe(tf.tap(note)).pipe(file)
    await response.send(as_json(seen))


async def echo(request: http.Request, response: http.Response) -> None:
    try:
        texts = request.body.pipe(tf.limit_bytes(ECHOED)).pipe(tf.decode())
        answer = await texts.pipe(tf.encode()).pipe(tf.join())
    except UnicodeDecodeError as exc:
        wrong = exc.object[exc.start : exc.start + 1].hex()
        told = f"the body is not valid UTF-8: {exc.reason}, byte 0x{wrong}"
        raise Refused(told) from exc
    except ValueError as exc:
        raise Refused(f"the body is longer than {ECHOED:,} bytes", 413) from exc
    response.headers["content-type"] = "text/plain; charset=utf-8"
    await response.send(answer)
