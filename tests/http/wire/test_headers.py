"""What may be set in headers and trailers, by every method that sets something."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import pytest

from trioflow.http import Headers
from trioflow.http.wire.headers import NEVER_TRAILERS, Trailers

# Every way to put a name and a value into a mapping. Each builds the field itself, so that a wrong one is refused
# either when it is built or when it is set.
WAYS: dict[str, Callable[[Headers, str, str], object]] = {
    "__init__": lambda headers, name, value: type(headers)([(name, value)]),
    "__setitem__": lambda headers, name, value: headers.__setitem__(name, value),
    "add": lambda headers, name, value: headers.add(name, value),
    "fill": lambda headers, name, value: headers.fill(Headers([(name, value)])),
    "fill among others": lambda headers, name, value: headers.fill(Headers([("a", "1"), (name, value), ("b", "2")])),
    "setdefault": lambda headers, name, value: headers.setdefault(name, value),
    "update with a mapping": lambda headers, name, value: headers.update({name: value}),
    "update with headers": lambda headers, name, value: headers.update(Headers([(name, value)])),
    "update with pairs": lambda headers, name, value: headers.update([(name, value)]),
    "update with keywords": lambda headers, name, value: headers.update(**{name: value}),
}
DELETIONS: dict[str, Callable[[Headers], object]] = {
    "__delitem__": lambda headers: headers.__delitem__("x"),
    "pop": lambda headers: headers.pop("x"),
    "popitem": lambda headers: headers.popitem(),
    "clear": lambda headers: headers.clear(),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [Headers, Trailers])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x", "a\r\nb: c"),
        ("x", "a\nb"),
        ("x", "a\rb"),
        ("x", "\0"),
        ("x", "\u0100"),
        ("x\r\ny", "z"),
        ("x:", "y"),
        ("", "y"),
    ],
)
def test_every_method_refuses_what_is_invalid_in_a_header(way: str, kind: type[Headers], name: str, value: str) -> None:
    headers = kind()

    with pytest.raises(ValueError, match="header"):
        WAYS[way](headers, name, value)

    assert headers._lines() == b""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", sorted(NEVER_TRAILERS))
def test_every_method_refuses_a_trailer_that_must_be_sent_before_the_body(way: str, name: str) -> None:
    for spelled in (name, name.title(), name.upper()):
        trailers = Trailers()

        with pytest.raises(ValueError, match=f"{name} cannot be sent as a trailer"):
            WAYS[way](trailers, spelled, "1")

        assert trailers._lines() == b""


CHANGES: dict[str, Callable[[Headers], object]] = {
    **{way: lambda headers, make=make: make(headers, "y", "1") for way, make in WAYS.items() if way != "__init__"},
    **DELETIONS,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", [Headers, Trailers])
def test_headers_that_were_sent_cannot_be_changed(change: str, kind: type[Headers]) -> None:
    headers = kind([("x", "1")])
    headers._freeze("they have been sent")

    with pytest.raises(RuntimeError, match="they have been sent"):
        CHANGES[change](headers)

    assert headers._lines() == b"X: 1\r\n"


def test_every_method_that_changes_headers_is_in_these_tables() -> None:
    reading = {"get", "get_all", "all_of", "has_any", "lines", "keys", "items", "values", "received", "freeze"}
    changing = {name for name in dir(Headers) if not name.startswith("_")} - reading

    assert changing == {way.split()[0] for way in CHANGES} - {"__setitem__", "__delitem__"}


class Own(str, Enum):  # noqa: UP042 - that is the one that formats itself as another
    NAME = "X-Of-An-Enum"
    VALUE = "Of-An-Enum"


class Odd(str):
    def __format__(self, spec: str) -> str:
        return "X: 1\r\nSet-Cookie: odd=1"


@pytest.mark.parametrize(("name", "value"), [(Own.NAME, Own.VALUE), (Odd("X-Odd"), Odd("odd"))])
@pytest.mark.parametrize("way", WAYS)
def test_a_subclass_of_str_is_sent_as_plain_text_and_not_cached(way: str, name: str, value: str) -> None:
    text, said = str.__str__(name), str.__str__(value)
    for pair in ((name, value), (text, said)):
        headers = Headers([pair]) if way == "__init__" else Headers()
        WAYS[way](headers, *pair)

        assert f"{text}: {said}\r\n".encode() in headers._lines().splitlines(keepends=True)
        assert {type(part) for field in headers._all_of(text.lower()) for part in field[:3]} == {str}
