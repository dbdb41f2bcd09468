"""Header fields: a mapping that does not look at case, in order, with repeats.

Rule 1: what cannot stand in a header is refused when it is set, so that nothing can be smuggled out (RFC 9110 5.5).
Rule 2: names go out in Title-Case, whatever case they were set in; a name with capitals of its own keeps them.
Rule 3: once the head is on its way, nothing here changes any more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, MutableMapping
from functools import lru_cache
from typing import Final

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # no control but the tab; what Latin-1 has
_SPELLED: Final = {"etag": "ETag", "te": "TE", "www-authenticate": "WWW-Authenticate", "dnt": "DNT"}


@lru_cache(maxsize=512)
def _shown(name: str) -> str:
    """Check a name and give it as it goes out."""
    if _TOKEN.fullmatch(name) is None:
        raise ValueError(f"a header's name is letters, digits and !#$%&'*+-.^_`|~, not {name!r}")
    return _SPELLED.get(name, name.title()) if name.islower() else name


def _checked(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"the header {name!r} wants a str, not {value!r}")
    if _VALUE.fullmatch(value) is None:
        raise ValueError(f"the header {name!r} cannot hold line ends, controls or what is not Latin-1: {value!r}")
    return value.strip(" \t")


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
        self._fields: dict[str, tuple[str, list[str]]] = {}
        self._frozen: str | None = None
        for name, value in fields:
            self.add(name, value)

    @classmethod
    def received(cls, fields: Iterable[tuple[bytes, bytes]]) -> Headers:
        """Make one of what a parser has checked; the names are in lower case."""
        self = cls()
        for name, value in fields:
            key = name.decode("ascii")
            known = self._fields.get(key)
            if known is None:
                self._fields[key] = (key, [value.decode("latin-1")])
            else:
                known[1].append(value.decode("latin-1"))
        return self

    def __getitem__(self, name: str) -> str:
        values = self._fields[name.lower()][1]
        if len(values) == 1:
            return values[0]
        match name.lower():
            case "set-cookie":
                return values[0]
            case "cookie":
                return "; ".join(values)
            case _:
                return ", ".join(values)

    def get_all(self, name: str) -> list[str]:
        """Give each value of `name`, in order; an empty list where there is none."""
        known = self._fields.get(name.lower())
        return [] if known is None else list(known[1])

    def __setitem__(self, name: str, value: str) -> None:
        shown = self._writable(name)
        self._fields[name.lower()] = (shown, [_checked(name, value)])

    def add(self, name: str, value: str) -> None:
        """Add one more field of that name, behind those there are."""
        shown = self._writable(name)
        value = _checked(name, value)
        self._fields.setdefault(name.lower(), (shown, []))[1].append(value)

    def __delitem__(self, name: str) -> None:
        self._writable(name)
        del self._fields[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"<Headers {dict(self)!r}>"

    def fields(self) -> list[tuple[bytes, bytes]]:
        """Give every field as it goes out."""
        return [
            (shown.encode("ascii"), value.encode("latin-1"))
            for shown, values in self._fields.values()
            for value in values
        ]

    def freeze(self, reason: str) -> None:
        """Refuse every change from now on, saying why."""
        self._frozen = reason

    def _writable(self, name: object) -> str:
        if self._frozen is not None:
            raise RuntimeError(self._frozen)
        if not isinstance(name, str):
            raise TypeError(f"a header's name is a str, not {name!r}")
        return _shown(name)
