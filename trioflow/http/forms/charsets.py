"""Chooses the charset that decodes the text of a form. No I/O.

Rule 1: what the client says comes first: the charset of the part (RFC 7578 4.4), then that of a field `_charset_` before
    it (4.6), then the caller's `encoding`. Nothing is guessed from the bytes.
Rule 2: a client can name only charsets that browsers send forms in, none of Python's other codecs. The names that clients
    send are not cached, as `codecs.lookup` would do.
"""

from __future__ import annotations

import re
from encodings.aliases import aliases
from typing import Final

from trioflow.http.wire.limits import RequestError

_KNOWN: Final = re.compile(  # Python's names for the charsets of the Encoding Standard
    r"utf_8|ascii|latin_1|iso8859_1?[0-9]|cp125[0-8]|cp(?:866|874|932|949|950)|koi8_[ru]|mac_(?:roman|cyrillic)"
    r"|gb2312|gbk|gb18030|big5(?:hkscs)?|shift_jis|euc_(?:jp|kr)|iso2022_jp"
)


def codec_of(charset: str) -> str | None:
    """Return Python's name for a charset; None if browsers send no forms in it."""
    label = re.sub(r"[^a-z0-9]+", "_", charset.strip().lower())
    codec = aliases.get(label, label)
    return codec if _KNOWN.fullmatch(codec) else None


def named_by_client(charset: str) -> str:
    """Return Python's name for the charset that a client says it used.

    Raises:
        RequestError: the charset is unknown.
    """
    codec = codec_of(charset)
    if codec is None:
        raise RequestError(400, f"the form uses the unknown charset {charset[:60]!r}")
    return codec


def decode(data: bytes, codec: str, what: str) -> str:
    """Decode a text of a form.

    Raises:
        RequestError: the text is not in this charset. The message calls it `what`.
    """
    try:
        return data.decode(codec)
    except UnicodeDecodeError as exc:
        raise RequestError(
            400,
            f"{what} is not {codec}: byte 0x{data[exc.start]:02x} at position {exc.start}; "
            'put <meta charset="utf-8"> in the page with the form, or pass its charset to form(encoding=...)',
        ) from exc
