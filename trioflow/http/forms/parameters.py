"""Parses the parameters of `Content-Type` and `Content-Disposition`: boundaries, charsets, names of parts. No I/O.

Rule 1: a field that is malformed or ambiguous is refused; nothing in it is skipped.
Rule 2: the name of a part may be written as browsers do, with backslash escapes, or as in RFC 8187
    (`name*=utf-8''na%C3%AFve`), which takes precedence.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote_to_bytes

from trioflow.http.forms.charsets import decode, named_by_client
from trioflow.http.wire.limits import RequestError

_KIND: Final = re.compile(r"[ \t]*([!#$%&'*+\-.^_`|~0-9A-Za-z]+/[!#$%&'*+\-.^_`|~0-9A-Za-z]+)[ \t]*")
_FORM_DATA: Final = re.compile(r"form-data[ \t]*(?=;|\Z)", re.IGNORECASE)
_PARAMETER: Final = re.compile(r';[ \t]*([^\s;="]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))[ \t]*|;[ \t]*')

# As browsers send it: backslashes are literal, and quotes and line ends are percent-encoded (HTML, 4.10.22.8).
_OF_BROWSERS: Final = re.compile(r'form-data; name="([^"]*)"(?:; filename="([^"]*)")?')
_EXTENDED: Final = re.compile(r"([^']+)'[^']*'((?:[^%]|%[0-9A-Fa-f]{2})*)")  # RFC 8187 3.2
_PIECE: Final = re.compile(r"(?:file)?name\*.+")  # RFC 2231 3


def _parameters(value: str, at: int, unescape: Callable[[str], str]) -> dict[str, str] | None:
    """Return the parameters in a field's value from `at` on; None if they are malformed or one is repeated."""
    parameters: dict[str, str] = {}
    while at < len(value):
        found = _PARAMETER.match(value, at)
        name = found[1] and found[1].lower() if found else None
        if not found or name in parameters:
            return None
        if name:
            parameters[name] = found[3] if found[2] is None else unescape(found[2])
        at = found.end()
    return parameters


def _without_backslashes(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _without_percents(text: str) -> str:
    return text.replace("%0D", "\r").replace("%0A", "\n").replace("%22", '"')


def _unescaped(text: str) -> str:
    """Unescape a quoted name: curl and others escape quotes with backslashes, browsers with percent-encoding."""
    return (_without_backslashes if '\\"' in text else _without_percents)(text)


def content_type(value: str) -> tuple[str, dict[str, str]]:
    """Split a `Content-Type` into the type in lower case and its parameters (RFC 9110 8.3.1).

    Raises:
        RequestError: the value is malformed, or repeats a parameter.
    """
    kind = _KIND.match(value)
    parameters = _parameters(value, kind.end(), _without_backslashes) if kind else None
    if not kind or parameters is None:
        raise RequestError(400, f"malformed content type {value!r}")
    return kind[1].lower(), parameters


def part_names(disposition: str, codec: str) -> tuple[str, str | None]:
    """Return the name of a part and its filename, which is None for a field.

    In `disposition`, the value of Content-Disposition, each byte is one character.

    Raises:
        RequestError: the value is malformed or not in this charset, or the part has no name.
    """
    if found := _OF_BROWSERS.fullmatch(disposition):
        name, filename = found.groups()
        return (
            _text(_without_percents(name), "name", codec),
            None if filename is None else _text(_without_percents(filename), "filename", codec),
        )
    kind = _FORM_DATA.match(disposition)
    given = _parameters(disposition, kind.end(), _unescaped) if kind else None
    if given is None:
        raise RequestError(400, "a part has no valid Content-Disposition")
    if any(map(_PIECE.fullmatch, given)):
        raise RequestError(400, "the name of a part is split into pieces (RFC 2231), which forms do not allow")
    name, filename = (_plain_or_extended(given, key, codec) for key in ("name", "filename"))
    if name is None:
        raise RequestError(400, "a part has no name")
    return name, filename


def _plain_or_extended(given: dict[str, str], key: str, codec: str) -> str | None:
    if (extended := given.get(key + "*")) is None:
        return _text(given[key], key, codec) if key in given else None
    found = _EXTENDED.fullmatch(extended)
    if found is None:
        raise RequestError(400, f"the {key}* of a part is malformed")
    return decode(unquote_to_bytes(found[2].encode("latin-1")), named_by_client(found[1]), f"the {key}* of a part")


def _text(given: str, key: str, codec: str) -> str:
    return decode(given.encode("latin-1"), codec, f"the {key} of a part")
