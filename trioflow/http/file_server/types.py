"""Content types by a file's name.

Rule 1: the name's last suffix decides, never the content: what is uploaded as text must not become a page.
Rule 2: the same on every machine: the system's own tables are not asked.
Rule 3: text is UTF-8, and says so.
Rule 4: what is packed already is never looked for, or made, in a packed variant.
"""

from __future__ import annotations

import mimetypes
import re
from functools import cache
from typing import Final

UNKNOWN: Final = "application/octet-stream"

# What `mimetypes` of some supported Python does not know, or answers with an older name; and what a compressed file
# is in itself, where `mimetypes` tells what is inside.
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
    # An instance holds Python's own table alone; the module's functions add what the system has.
    return {**mimetypes.MimeTypes().types_map[True], **_OWN}


def content_type(name: str) -> str:
    """Give the content type of a file of this name, as the header wants it."""
    stem, dot, suffix = name.rpartition(".")
    kind = _table().get(dot + suffix.lower(), UNKNOWN) if stem else UNKNOWN
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


# In their own formats, what these hold is packed already, or as good as.
_PACKED: Final = re.compile(
    r"(?:audio|video|image)/(?!svg|bmp|x-icon|vnd\.microsoft\.icon|wav|x-wav)|font/woff"
    r"|application/(?:zip|gzip|zstd|x-bzip2|x-xz|epub\+zip|pdf|vnd\.apache\.parquet|vnd\.android)"
)
_TEXT: Final = re.compile(
    r"text/|application/(?:json|jsonl|javascript|xml|x-ndjson|wasm|rtf|[a-z.]+\+(?:json|xml))|image/svg"
)


def may_be_packed(kind: str) -> bool:
    """Tell whether packed variants of a file of this type make sense."""
    return _PACKED.match(kind) is None


def is_text(kind: str) -> bool:
    """Tell whether this is text, or packs as well as text does."""
    return _TEXT.match(kind) is not None
