"""Header fields and trailers: a case-insensitive mapping, in order, with repeats.

Rule 1: an invalid name or value is refused when it is set, so that nothing can be injected (RFC 9110 5.5).
Rule 2: a name in lower case is sent in Title-Case; a name with capitals is sent as it was set.
Rule 3: once the head has been sent, nothing here can change.
Rule 4: every method that makes a change calls `_check_change` first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, MutableMapping
from functools import lru_cache
from typing import ClassVar, Final, NamedTuple

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # no control character except tab; only Latin-1
_SHORT: Final = 128  # characters: longer names and values are not cached
_SPELLED: Final = {"etag": "ETag", "te": "TE", "www-authenticate": "WWW-Authenticate", "dnt": "DNT"}

# Where a message ends, where it goes and who sent it: after the body it is too late for these (RFC 9110 6.5.1).
ROUTING: Final = frozenset(["authorization", "content-length", "host", "proxy-authorization", "transfer-encoding"])
# A request's trailers may not have those above; a response's may not have what a client needs before the body, either.
NEVER_TRAILERS: Final = ROUTING | frozenset(
    (
        "cache-control", "connection", "content-encoding", "content-range", "content-type", "cookie", "date", "expect",
        "expires", "keep-alive", "location", "proxy-authenticate", "retry-after", "set-cookie", "te", "trailer", "upgrade",
        "vary", "www-authenticate",
    )
)  # fmt: skip


@lru_cache(maxsize=512)
def _shown(name: str) -> str:
    """Check a name and return it as it is sent."""
    if _TOKEN.fullmatch(name) is None:
        raise ValueError(f"a header name may only have letters, digits and !#$%&'*+-.^_`|~, got {name!r}")
    return _SPELLED.get(name, name.title()) if name.islower() else name


def tokens_of(value: str) -> list[str]:
    """Return the tokens, in lower case, of a field that holds a list, such as `Connection`."""
    return [token.strip(" \t").lower() for token in value.split(",")]


class Field(NamedTuple):
    """One field: its key in the mapping, its name as it is sent, its value, and its whole line."""

    key: str
    shown: str
    value: str
    line: bytes


def _made(name: str, value: str) -> Field:
    # A member of a str Enum equals its value, but may be formatted as another text, which the cache would then return.
    name, value = str.__str__(name), str.__str__(value)
    shown = _shown(name)
    if _VALUE.fullmatch(value) is None:
        raise ValueError(f"header {name!r}: the value must be Latin-1 without line ends or controls, got {value!r}")
    value = value.strip(" \t")
    return Field(name.lower(), shown, value, f"{shown}: {value}\r\n".encode("latin-1"))


# Most fields are set again for every response: the cache saves 2 µs each.
_known: Final = lru_cache(maxsize=1024)(_made)


def _field(name: object, value: object) -> Field:
    if not isinstance(name, str):
        raise TypeError(f"a header name must be a str, got {name!r}")
    if not isinstance(value, str):
        raise TypeError(f"header {name!r}: the value must be a str, got {value!r}")
    return _known(name, value) if len(value) <= _SHORT and len(name) <= _SHORT else _made(name, value)


class Headers(MutableMapping[str, str]):
    """A case-insensitive mapping of header names to values.

    `headers[name]` joins repeated fields with `, ` (RFC 9110 5.3), but `Cookie` with `; `. `Set-Cookie` cannot be
    joined, so it returns the first. `get_all` returns every value. Setting a name replaces all its fields; `add` adds
    one more.

    Args:
        fields: Names and values to start with; a name may be repeated.

    Raises:
        TypeError: a name or a value is not a `str`.
        ValueError: a name is not a token (RFC 9110 5.6.2), or a value has a line end, a control character other than
            tab, or a character outside Latin-1.
        RuntimeError: the headers have been sent, or are those of a request.

    Example:
        >>> headers = Headers([("Accept", "text/html")])
        >>> headers.add("accept", "image/png")
        >>> headers["ACCEPT"]
        'text/html, image/png'
        >>> headers.get_all("accept")
        ['text/html', 'image/png']
    """

    __slots__ = ("_fields", "_frozen", "_joined")

    _refused: ClassVar[frozenset[str]] = frozenset()  # names that cannot be set

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self._fields: dict[str, tuple[Field, ...]] = {}
        self._frozen: str | None = None
        self._joined: bytes | None = None  # as they are sent; None after a change
        for name, value in fields:
            self.add(name, value)

    @classmethod
    def _received(cls, fields: Iterable[tuple[bytes, bytes]]) -> Headers:
        """Make headers of fields that a parser has checked; their names are in lower case."""
        self = cls()
        for name, value in fields:
            key = name.decode("ascii")
            field = Field(key, key, value.decode("latin-1"), b"%s: %s\r\n" % (name, value))
            self._fields[key] = (*self._fields.get(key, ()), field)
        return self

    def __getitem__(self, name: str) -> str:
        fields = self._fields[name.lower()]
        if len(fields) == 1:
            return fields[0].value
        match name.lower():
            case "set-cookie":
                return fields[0].value
            case "cookie":
                return "; ".join(field.value for field in fields)
            case _:
                return ", ".join(field.value for field in fields)

    def get_all(self, name: str) -> list[str]:
        """Return every value of `name`, in order; an empty list if it is not set."""
        return [field.value for field in self._fields.get(name.lower(), ())]

    def _all_of(self, key: str) -> tuple[Field, ...]:
        """Return every field of a name in lower case. Faster than `get_all`: the server calls it for each response."""
        return self._fields.get(key, ())

    def _has_any(self, keys: frozenset[str]) -> bool:
        """Return whether one of these names, in lower case, is set."""
        return not keys.isdisjoint(self._fields)

    def __setitem__(self, name: str, value: str) -> None:
        field = _field(name, value)
        self._check_change(field.key)
        self._fields[field.key] = (field,)

    def add(self, name: str, value: str) -> None:
        """Add a field after those that are set, even if it repeats a name."""
        field = _field(name, value)
        self._check_change(field.key)
        self._fields[field.key] = (*self._fields.get(field.key, ()), field)

    def fill(self, others: Headers) -> None:
        """Add the fields of `others` whose names are not set yet."""
        self._check_change(*others._fields)
        if self._fields:
            self._fields = {**self._fields, **others._fields, **self._fields}
        else:  # a cached file's lines are joined only once, which saves half a microsecond a response
            self._fields, self._joined = others._fields.copy(), others._lines()

    def __delitem__(self, name: str) -> None:
        self._check_change()
        del self._fields[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"<Headers {dict(self)!r}>"

    def _lines(self, *, without: str = "") -> bytes:
        """Return all fields as they are sent, each with its line end, but not those named `without`."""
        if without in self._fields:
            return b"".join([field.line for key, fields in self._fields.items() if key != without for field in fields])
        if self._joined is None:
            self._joined = b"".join([field.line for fields in self._fields.values() for field in fields])
        return self._joined

    def _freeze(self, reason: str) -> None:
        """Make every later change raise a `RuntimeError` with this reason."""
        self._frozen = reason

    def _check_change(self, *keys: str) -> None:
        if self._frozen is not None:
            raise RuntimeError(self._frozen)
        if self._refused and not self._refused.isdisjoint(keys):
            raise ValueError(f"{', '.join(self._refused.intersection(keys))} cannot be sent as a trailer")
        self._joined = None


class Trailers(Headers):
    """Header fields that are sent after a body; fields that a client needs before the body are refused."""

    __slots__ = ()

    _refused = NEVER_TRAILERS
