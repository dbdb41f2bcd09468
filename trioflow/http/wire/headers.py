"""Header fields: a mapping that does not look at case, in order, with repeats.

Rule 1: what cannot stand in a header is refused when it is set, so that nothing can be smuggled out (RFC 9110 5.5).
Rule 2: names go out in Title-Case, whatever case they were set in; a name with capitals of its own keeps them.
Rule 3: once the head is on its way, nothing here changes any more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, MutableMapping
from functools import lru_cache
from typing import Final, NamedTuple

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # no control but the tab; what Latin-1 has
_SHORT: Final = 128  # characters of what is worth remembering
_SPELLED: Final = {"etag": "ETag", "te": "TE", "www-authenticate": "WWW-Authenticate", "dnt": "DNT"}

# What says where a message ends, whom it is for, or what must be known before its body (RFC 9110 6.5.1).
_NOT_BEHIND: Final = frozenset(
    [
        "authorization",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "cookie",
        "date",
        "expect",
        "expires",
        "host",
        "keep-alive",
        "location",
        "proxy-authenticate",
        "proxy-authorization",
        "retry-after",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "vary",
        "www-authenticate",
    ]
)


@lru_cache(maxsize=512)
def _shown(name: str) -> str:
    """Check a name and give it as it goes out."""
    if _TOKEN.fullmatch(name) is None:
        raise ValueError(f"a header's name is letters, digits and !#$%&'*+-.^_`|~, not {name!r}")
    return _SPELLED.get(name, name.title()) if name.islower() else name


class Field(NamedTuple):
    """One field: the key it is found by, its name as it goes out, its value, and the line of all that."""

    key: str
    shown: str
    value: str
    line: bytes


def _made(name: str, value: str) -> Field:
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
    """A mapping of header names to values that does not look at case.

    `headers[name]` joins repeated fields with `, ` as RFC 9110 5.3 says (`Cookie` with `; `; `Set-Cookie`, which
    cannot be joined, gives the first); `get_all` gives each. Setting replaces all; `add` repeats.

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

    __slots__ = ("_fields", "_frozen")

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self._fields: dict[str, tuple[Field, ...]] = {}
        self._frozen: str | None = None
        for name, value in fields:
            self.add(name, value)

    @classmethod
    def received(cls, fields: Iterable[tuple[bytes, bytes]]) -> Headers:
        """Make one of what a parser has checked; the names are in lower case."""
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
        """Give each value of `name`, in order; an empty list where there is none."""
        return [field.value for field in self._fields.get(name.lower(), ())]

    def all_of(self, key: str) -> tuple[Field, ...]:
        """Give each field of that name, which is in lower case: for the server, which asks for each response."""
        return self._fields.get(key, ())

    def __setitem__(self, name: str, value: str) -> None:
        self._check()
        field = _field(name, value)
        self._fields[field.key] = (field,)

    def add(self, name: str, value: str) -> None:
        """Add one more field of that name, behind those there are."""
        self._check()
        field = _field(name, value)
        self._fields[field.key] = (*self._fields.get(field.key, ()), field)

    def fill(self, others: Headers) -> None:
        """Set those of `others` that are not set; they have been checked."""
        if self._frozen is not None:
            raise RuntimeError(self._frozen)
        self._fields = {**others._fields, **self._fields}

    def __delitem__(self, name: str) -> None:
        self._check()
        del self._fields[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"<Headers {dict(self)!r}>"

    def lines(self, *, without: str = "") -> list[bytes]:
        """Give every field as it goes out, with its line end, but for those of one name."""
        return [field.line for key, fields in self._fields.items() if key != without for field in fields]

    def freeze(self, reason: str) -> None:
        """Refuse every change from now on, saying why."""
        self._frozen = reason

    def _check(self) -> None:
        if self._frozen is not None:
            raise RuntimeError(self._frozen)


class Trailers(Headers):
    """Header fields that are sent behind a body; what a client must know before it is refused."""

    __slots__ = ()

    def __setitem__(self, name: str, value: str) -> None:
        _refuse(name)
        super().__setitem__(name, value)

    def add(self, name: str, value: str) -> None:
        """Add one more field of that name, behind those there are."""
        _refuse(name)
        super().add(name, value)


def _refuse(name: object) -> None:
    if isinstance(name, str) and name.lower() in _NOT_BEHIND:
        raise ValueError(f"{name} cannot come behind a body")
