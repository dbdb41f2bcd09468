"""Write the SHA-256 of one file after the other, beside as many other workers as are started.

    trioflow work tasks:write_digest --url redis://127.0.0.1:6379 --stream files --group digests --concurrency 2

A digest is written under its file's name, so a file that is done twice is harmless.
"""

import hashlib
import os
from pathlib import Path

from trioflow import redis


def write_digest(delivery: redis.Delivery[str]) -> None:
    """Called in a thread, as it is a plain function: it may block and compute."""
    path = Path(delivery.value)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    unfinished = path.with_name(f"{path.name}.{delivery.id}.sha256")
    unfinished.write_text(f"{digest}  {path.name}\n", encoding="utf-8")
    os.replace(unfinished, path.with_name(f"{path.name}.sha256"))
