"""Numbers for people."""

from __future__ import annotations


def shown_bytes(count: float) -> str:
    """Give a number of bytes in three digits or so: 3.2 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
