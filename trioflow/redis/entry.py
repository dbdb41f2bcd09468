"""An encoded item and its options."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from trioflow._core.checks import check_type
from trioflow.redis.options import delay_of, to_json, to_milliseconds

ITEM_ALONE: Final = 2  # fields of an entry without options
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


class Entry(bytes):
    """The bytes of an item with its options: `encode` may return one, and `decode` is called with one.

    The entry passed to `decode` has only `headers` and `key`. An entry made from another entry takes the options that
    you leave out from that one.

    Attributes:
        headers: Metadata of the item by name, read-only.
        key: The key within which items are delivered in order, or None.
    """

    headers: Mapping[str, str] = _NO_HEADERS
    key: str | None = None
    _options: Mapping[str, Any] = MappingProxyType({})  # as the script that adds entries reads them

    def __new__(
        cls,
        data: bytes | str,
        *,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
        delay: float = 0.0,
        ttl: float = math.inf,
        idempotency_key: str | None = None,
    ) -> Entry:
        """Make an entry from an encoded item. The options are those of `RedisSender.send`.

        Args:
            data: The item; a str is encoded as UTF-8.

        Raises:
            TypeError, ValueError: an argument has the wrong type, or is out of range.
        """
        check_type("Entry: data", data, bytes | str, "bytes or a str")
        self = super().__new__(cls, data.encode() if isinstance(data, str) else data)
        options = dict(data._options) if isinstance(data, Entry) else {}
        if headers is not None:
            options["headers"] = to_json(_checked_headers(headers)).decode()
        if key is not None:
            options["key"] = _checked_key("key", key)
        if idempotency_key is not None:
            options["once"] = _checked_key("idempotency_key", idempotency_key)
        if pause := delay_of("delay", delay):
            options["delay"] = pause
        if isinstance(ttl, bool) or ttl != math.inf:
            options["ttl"] = to_milliseconds("ttl", ttl)
        if options:
            self._options = options
            self._show(options)
        return self

    def _show(self, options: Mapping[str, Any]) -> None:
        if "headers" in options:
            self.headers = MappingProxyType(json.loads(options["headers"]))
        self.key = options.get("key")


def entry_of(fields: Sequence[bytes]) -> Entry:
    """Return the entry for its fields in the stream: names and values in turn, the item first."""
    entry = bytes.__new__(Entry, fields[1])
    if len(fields) > ITEM_ALONE:
        entry._show({fields[i].decode(): fields[i + 1].decode() for i in range(ITEM_ALONE, len(fields), 2)})
    return entry


def options_of(items: Sequence[bytes | str]) -> bytes:
    """Return the options of items as the script that adds entries reads them; empty if no item has any."""
    if not any(isinstance(item, Entry) and item._options for item in items):
        return b""
    return to_json([dict(item._options) if isinstance(item, Entry) else {} for item in items])


def _checked_headers(headers: Any) -> dict[str, str]:
    if not isinstance(headers, Mapping) or not all(isinstance(word, str) for pair in headers.items() for word in pair):
        raise TypeError(f"headers must be a mapping of str to str, got {headers!r}")
    return dict(headers)


def _checked_key(name: str, key: str) -> str:
    check_type(name, key, str, "a str or None")
    if not key or "\0" in key:
        raise ValueError(f"{name} must be a non-empty str without NUL characters, got {key!r}")
    return key
