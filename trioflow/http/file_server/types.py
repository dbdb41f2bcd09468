"""Content types by a file's name.

Rule 1: the name's last suffix decides, never the content: what was uploaded as text must not become a page.
Rule 2: the type is the same on every machine: the system's own tables are not read.
Rule 3: text is UTF-8, and says so.
Rule 4: for what is compressed already, no compressed variant is looked for or made.
"""

from __future__ import annotations

import mimetypes
import re
from functools import cache
from typing import Final

UNKNOWN: Final = "application/octet-stream"

# What `mimetypes` of some supported Python does not know, or knows by an older name; and what a compressed file itself
# is, while `mimetypes` says what is in it.
_OWN: Final = {
    ".apk": "application/vnd.android.package-archive",
    ".avif": "image/avif",
    ".br": UNKNOWN,
    ".bz2": "application/x-bzip2",
    ".cbor": "application/cbor",
    ".cfg": "text/plain",
    ".conf": "text/plain",
    ".epub": "application/epub+zip",
    ".flac": "audio/flac",
    ".geojson": "application/geo+json",
    ".gz": "application/gzip",
    ".heic": "image/heic",
    ".ics": "text/calendar",
    ".ini": "text/plain",
    ".jpg": "image/jpeg",
    ".js": "text/javascript",
    ".jsonl": "application/jsonl",
    ".jsonld": "application/ld+json",
    ".jxl": "image/jxl",
    ".log": "text/plain",
    ".m3u8": "application/vnd.apple.mpegurl",
    ".m4a": "audio/mp4",
    ".m4s": "video/iso.segment",
    ".m4v": "video/mp4",
    ".map": "application/json",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".mkv": "video/matroska",
    ".mka": "audio/matroska",
    ".mpd": "application/dash+xml",
    ".ndjson": "application/x-ndjson",
    ".oga": "audio/ogg",
    ".ogg": "audio/ogg",
    ".ogv": "video/ogg",
    ".opus": "audio/ogg",
    ".otf": "font/otf",
    ".parquet": "application/vnd.apache.parquet",
    ".py": "text/x-python",
    ".rst": "text/x-rst",
    ".rtf": "application/rtf",
    ".toml": "application/toml",
    ".ts": "video/mp2t",
    ".ttf": "font/ttf",
    ".vtt": "text/vtt",
    ".wasm": "application/wasm",
    ".wav": "audio/wav",
    ".weba": "audio/webm",
    ".webm": "video/webm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xhtml": "application/xhtml+xml",
    ".xml": "application/xml",
    ".xz": "application/x-xz",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".zip": "application/zip",
    ".zst": "application/zstd",
}


@cache
def _table() -> dict[str, str]:
    # An instance holds only Python's own table; the module's functions add the system's.
    return {**mimetypes.MimeTypes().types_map[True], **_OWN}


def content_type(name: str) -> str:
    """Return the value of Content-Type for a file of this name."""
    stem, dot, suffix = name.rpartition(".")
    kind = _table().get(dot + suffix.lower(), UNKNOWN) if stem else UNKNOWN
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


# What these hold is compressed by their own formats, or nearly.
_COMPRESSED: Final = re.compile(
    r"(?:audio|video|image)/(?!svg|bmp|x-icon|vnd\.microsoft\.icon|wav|x-wav)|font/woff"
    r"|application/(?:zip|gzip|zstd|x-bzip2|x-xz|epub\+zip|pdf|vnd\.apache\.parquet|vnd\.android)"
)
_TEXT: Final = re.compile(
    r"text/|application/(?:json|jsonl|javascript|xml|x-ndjson|wasm|rtf|[a-z.]+\+(?:json|xml))|image/svg"
)


def is_compressible(kind: str) -> bool:
    """Return whether compressed variants of a file of this type make sense."""
    return _COMPRESSED.match(kind) is None


def is_text(kind: str) -> bool:
    """Return whether this is text, or compresses as well as text does."""
    return _TEXT.match(kind) is not None
