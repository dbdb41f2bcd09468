"""Header fields and trailers: a case-insensitive mapping, in order, with repeats.

Rule 1: what cannot stand in a header is refused when it is set, so that nothing can be smuggled out (RFC 9110 5.5).
Rule 2: names go out in Title-Case, whatever case they were set in; a name with capitals of its own keeps them.
Rule 3: once the head has been sent, nothing here changes any more.
Rule 4: every change, whichever method makes it, is checked in one place: `_check_change`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, MutableMapping
from functools import lru_cache
from typing import ClassVar, Final, NamedTuple

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # no control but the tab; what Latin-1 has
_SHORT: Final = 128  # characters of what is worth remembering
_SPELLED: Final = {"etag": "ETag", "te": "TE", "www-authenticate": "WWW-Authenticate", "dnt": "DNT"}

# What would change where a message ends, where it goes or who sent it, after that was decided (RFC 9110 6.5.1).
ROUTING: Final = frozenset(["authorization", "content-length", "host", "proxy-authorization", "transfer-encoding"])
# A request's trailers may not have the first; of what we send, also not what the client must know before the body.
NEVER_TRAILERS: Final = ROUTING | frozenset(
    [
        "cache-control",
        "connection",
        "content-encoding",
        "content-range",
        "content-type",
        "cookie",
        "date",
        "expect",
        "expires",
        "keep-alive",
        "location",
        "proxy-authenticate",
        "retry-after",
        "set-cookie",
        "te",
        "trailer",
        "upgrade",
        "vary",
        "www-authenticate",
    ]
)


@lru_cache(maxsize=512)
def _shown(name: str) -> str:
    """Check a name and return it as it goes out."""
    if _TOKEN.fullmatch(name) is None:
        raise ValueError(f"a header's name is letters, digits and !#$%&'*+-.^_`|~, not {name!r}")
    return _SPELLED.get(name, name.title()) if name.islower() else name


def tokens_of(value: str) -> list[str]:
    """Return the tokens of a field that is a list, such as `Connection`, in lower case."""
    return [token.strip(" \t").lower() for token in value.split(",")]


class Field(NamedTuple):
    """One field: the key it is found by, its name as it goes out, its value, and the line of all that."""

    key: str
    shown: str
    value: str
    line: bytes


def _made(name: str, value: str) -> Field:
    # A member of an Enum is equal to its text, and may format itself as another one, which would be cached for that text.
    name, value = str.__str__(name), str.__str__(value)
    shown = _shown(name)
    if _VALUE.fullmatch(value) is None:
        raise ValueError(f"the header {name!r} cannot hold line ends, controls or what is not Latin-1: {value!r}")
    value = value.strip(" \t")
    return Field(name.lower(), shown, value, f"{shown}: {value}\r\n".encode("latin-1"))


# Most fields are set again for every response: remembering them saves 2 µs each.
_known: Final = lru_cache(maxsize=1024)(_made)


def _field(name: object, value: object) -> Field:
    if not isinstance(name, str):
        raise TypeError(f"a header's name is a str, not {name!r}")
    if not isinstance(value, str):
        raise TypeError(f"the header {name!r} wants a str, not {value!r}")
    return _known(name, value) if len(value) <= _SHORT and len(name) <= _SHORT else _made(name, value)


class Headers(MutableMapping[str, str]):
    """A case-insensitive mapping of header names to values.

    `headers[name]` joins repeated fields with `, ` as RFC 9110 5.3 says (`Cookie` with `; `; `Set-Cookie`, which
    cannot be joined, returns the first); `get_all` returns each. Setting replaces all; `add` repeats.

    Args:
        fields: Names and values to begin with; repeats are kept.

    Raises:
        ValueError: a name is not a token, or a value holds a line end, a control or what is not Latin-1.
        RuntimeError: the head has gone out.

    Example:
        >>> headers = Headers([("Accept", "text/html")])
        >>> headers.add("accept", "image/png")
        >>> headers["ACCEPT"]
        'text/html, image/png'
        >>> headers.get_all("accept")
        ['text/html', 'image/png']
    """

    __slots__ = ("_fields", "_frozen", "_lines")

    _refused: ClassVar[frozenset[str]] = frozenset()  # names that cannot be set

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self._fields: dict[str, tuple[Field, ...]] = {}
        self._frozen: str | None = None
        self._lines: bytes | None = None  # as they go out, until the next change
        for name, value in fields:
            self.add(name, value)

    @classmethod
    def received(cls, fields: Iterable[tuple[bytes, bytes]]) -> Headers:
        """Return the fields that a parser has checked; the names are in lower case."""
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
        """Return each value of `name`, in order; an empty list if there is none."""
        return [field.value for field in self._fields.get(name.lower(), ())]

    def all_of(self, key: str) -> tuple[Field, ...]:
        """Return each field of that name, which is in lower case; for the server, which asks for each response."""
        return self._fields.get(key, ())

    def has_any(self, keys: frozenset[str]) -> bool:
        """Return whether there is a field of one of these names, which are in lower case."""
        return not keys.isdisjoint(self._fields)

    def __setitem__(self, name: str, value: str) -> None:
        field = _field(name, value)
        self._check_change(field.key)
        self._fields[field.key] = (field,)

    def add(self, name: str, value: str) -> None:
        """Add one more field of that name, after those there are."""
        field = _field(name, value)
        self._check_change(field.key)
        self._fields[field.key] = (*self._fields.get(field.key, ()), field)

    def fill(self, others: Headers) -> None:
        """Add those of `others` that are not set, after those that are."""
        self._check_change(*others._fields)
        if self._fields:
            self._fields = {**self._fields, **others._fields, **self._fields}
        else:  # the lines, too: those of a cached file are joined once, which saves half a microsecond a response
            self._fields, self._lines = others._fields.copy(), others.lines()

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

    def lines(self, *, without: str = "") -> bytes:
        """Return every field as it goes out, each with its line end, but for those of one name."""
        if without in self._fields:
            return b"".join([field.line for key, fields in self._fields.items() if key != without for field in fields])
        if self._lines is None:
            self._lines = b"".join([field.line for fields in self._fields.values() for field in fields])
        return self._lines

    def freeze(self, reason: str) -> None:
        """Refuse every change from now on, with this reason."""
        self._frozen = reason

    def _check_change(self, *keys: str) -> None:
        if self._frozen is not None:
            raise RuntimeError(self._frozen)
        if self._refused and not self._refused.isdisjoint(keys):
            raise ValueError(f"{', '.join(self._refused.intersection(keys))} cannot come after a body")
        self._lines = None


class Trailers(Headers):
    """Header fields that are sent after a body; what a client must know before the body is refused."""

    __slots__ = ()

    _refused = NEVER_TRAILERS
