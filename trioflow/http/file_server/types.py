"""Content types of files, by their names.

Rule 1: the last suffix of the name decides. A file with an unknown suffix is plain text if its beginning is UTF-8 text,
    else unknown bytes. Its content never makes it HTML or a script, so an upload cannot pass for one.
Rule 2: the type is the same on every machine: the table next to this module is mime-db's; Python's and the system's
    tables are not read.
Rule 3: text is sent with `charset=utf-8`.
Rule 4: files in a compressed format are not compressed again, and no compressed variant is looked for.
"""

from __future__ import annotations

import pkgutil
import re
from codecs import getincrementaldecoder
from functools import cache
from typing import Final

UNKNOWN: Final = "application/octet-stream"
TEXT: Final = "text/plain; charset=utf-8"
BEGINNING: Final = 1024  # bytes that are checked for text

# Registered with IANA or in common use, but missing in mime-db's table, or listed there under an older name.
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
# The table has a rare format for these; but most files with these suffixes are source code, such as TypeScript.
_OFTEN_TEXT: Final = frozenset(
    ("bat", "csh", "dart", "mts", "org", "pl", "pm", "pub", "rs", "scm", "sh", "sql", "srt", "tcl", "tex", "ts")
)
_BINARY: Final = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")  # as in the MIME Sniffing Standard


@cache
def type_table() -> dict[str, str]:
    """Return the types by suffix; the first call reads the table from disk."""
    data = pkgutil.get_data(__name__, "media_types.txt")
    assert data is not None
    lines = (line.split() for line in data.decode("ascii").splitlines() if not line.startswith("#"))
    return {suffix: kind for kind, *suffixes in lines for suffix in suffixes} | _OWN


def _suffix(name: str) -> str:
    stem, _, suffix = name.rpartition(".")
    return suffix.lower() if stem else ""


def content_type(name: str) -> str:
    """Return the value of Content-Type for a file with this name."""
    kind = type_table().get(_suffix(name), UNKNOWN)
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


def may_be_text(name: str) -> bool:
    """Return whether a file with this name is plain text if its content is text, whatever `content_type` returns."""
    suffix = _suffix(name)
    return suffix in _OFTEN_TEXT or suffix not in type_table()


def begins_as_text(begin: bytes | memoryview) -> bool:
    """Return whether a file is UTF-8 text, judged by its first `BEGINNING` bytes, or by all if it is shorter."""
    try:
        getincrementaldecoder("utf-8")().decode(begin, final=len(begin) < BEGINNING)
    except UnicodeDecodeError:
        return False
    return _BINARY.search(begin) is None


# Formats that are already compressed, or nearly all of them.
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
    """Return whether compressing a file of this type is worthwhile."""
    return _COMPRESSED.match(kind) is None


def is_text(kind: str) -> bool:
    """Return whether this type is text, or compresses as well as text does."""
    return _TEXT.match(kind) is not None
