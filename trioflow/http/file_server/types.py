"""Content types by a file's name.

Rule 1: the name's last suffix decides. What it leaves open is plain text if it begins as UTF-8 text, else unknown bytes:
    the content never makes a page or a script of what was uploaded as text.
Rule 2: the type is the same on every machine: the table beside this module is mime-db's, and neither Python's nor the
    system's tables are read.
Rule 3: text is UTF-8, and says so.
Rule 4: for what is compressed already, no compressed variant is looked for or made.
"""

from __future__ import annotations

import pkgutil
import re
from codecs import getincrementaldecoder
from functools import cache
from typing import Final

UNKNOWN: Final = "application/octet-stream"
TEXT: Final = "text/plain; charset=utf-8"
BEGINNING: Final = 1024  # bytes: what text is judged by

# Registered with IANA or in use, but not in mime-db's table, or there by an older name.
_OWN: Final = {
    "cbor": "application/cbor",
    "cjs": "text/javascript",
    "flac": "audio/flac",
    "m4v": "video/mp4",
    "mka": "audio/matroska",
    "mkv": "video/matroska",
    "parquet": "application/vnd.apache.parquet",
    "zst": "application/zstd",
}
# In the table by the name of a rare format; most files of these names are source code, such as TypeScript's.
_OFTEN_TEXT: Final = frozenset(
    ("bat", "csh", "dart", "mts", "org", "pl", "pm", "pub", "rs", "scm", "sh", "sql", "srt", "tcl", "tex", "ts")
)
_BINARY: Final = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")  # as in the MIME Sniffing Standard


@cache
def type_table() -> dict[str, str]:
    """Return the type of each suffix; read from disk at the first call."""
    data = pkgutil.get_data(__name__, "media_types.txt")
    assert data is not None
    lines = (line.split() for line in data.decode("ascii").splitlines() if not line.startswith("#"))
    return {suffix: kind for kind, *suffixes in lines for suffix in suffixes} | _OWN


def _suffix(name: str) -> str:
    stem, _, suffix = name.rpartition(".")
    return suffix.lower() if stem else ""


def content_type(name: str) -> str:
    """Return the value of Content-Type for a file of this name."""
    kind = type_table().get(_suffix(name), UNKNOWN)
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


def may_be_text(name: str) -> bool:
    """Return whether a file of this name is plain text if its content is text, whatever `content_type` says."""
    suffix = _suffix(name)
    return suffix in _OFTEN_TEXT or suffix not in type_table()


def begins_as_text(begin: bytes | memoryview) -> bool:
    """Return whether a file that begins with these bytes, `BEGINNING` of them if it is longer, is UTF-8 text."""
    try:
        getincrementaldecoder("utf-8")().decode(begin, final=len(begin) < BEGINNING)
    except UnicodeDecodeError:
        return False
    return _BINARY.search(begin) is None


# What these hold is compressed by their own formats, or nearly.
_COMPRESSED: Final = re.compile(
    r"(?:audio|video|image)/(?!svg|bmp|x-icon|vnd\.microsoft\.icon|vnd\.adobe\.photoshop|wav|x-wav)|font/woff"
    r"|application/(?:zip|gzip|zstd|x-bzip|x-xz|pdf|java-archive|x-7z-compressed|x-xpinstall|x-debian-package"
    r"|x-redhat-package-manager|x-apple-diskimage"
    r"|vnd\.(?:apache\.parquet|android|rar|google-earth\.kmz|openxmlformats|oasis\.opendocument))|[^+]+\+zip"
)
_TEXT: Final = re.compile(
    r"text/|(?:application|model)/(?:json|jsonl|json5|javascript|xml|yaml|toml|sql|x-sh|x-ndjson|wasm|rtf"
    r"|[^+]+\+(?:json|xml|yaml))|image/svg"
)


def is_compressible(kind: str) -> bool:
    """Return whether compressed variants of a file of this type make sense."""
    return _COMPRESSED.match(kind) is None


def is_text(kind: str) -> bool:
    """Return whether this is text, or compresses as well as text does."""
    return _TEXT.match(kind) is not None
