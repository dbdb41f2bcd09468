"""Write the SHA-256 of files, one at a time; start as many of these workers as you like.

    trioflow work tasks:write_digest --url redis://127.0.0.1:6379 --stream files --group digests --concurrency 2

Each digest has its file's name, so processing a file twice does no harm.
"""

import hashlib
import os
from pathlib import Path

from trioflow import redis


def write_digest(delivery: redis.Delivery[str]) -> None:
    """Write the digest of one file. As a plain function, this runs in a thread, so it may block and compute."""
    path = Path(delivery.value)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    unfinished = path.with_name(f"{path.name}.{delivery.id}.sha256")
    unfinished.write_text(f"{digest}  {path.name}\n", encoding="utf-8")
    os.replace(unfinished, path.with_name(f"{path.name}.sha256"))
