"""The arguments of the public functions, checked once when the call is made and then passed on as one value."""

from __future__ import annotations

import json
import math
import os
import secrets
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from trioflow._core.checks import check_count, check_function, check_limit, check_positive
from trioflow.redis.address import Address

CAPACITY: Final = 1000  # entries
PREFETCH: Final = 16  # entries in a chain
LEASE: Final = 30.0  # seconds
TRIES: Final = 5
DEAD_LETTERS: Final = 10_000

_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def to_json(item: Any) -> bytes:
    """Encode an item as compact JSON, the default; NaN and the infinities are refused."""
    return _encoder.encode(item).encode()


def unique_name() -> str:
    """Return a name that no other sender or receiver has, made of the host and the process it belongs to."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


@dataclass(frozen=True)
class StreamOptions:
    """Which stream, on which server, how long a lost one is waited for, what TLS trusts and offers, how many replicas confirm."""

    url: str
    name: str
    patience: float = math.inf
    ssl_context: ssl.SSLContext | None = None
    wait_replicas: int = 0

    def __post_init__(self) -> None:
        address = Address.of(self.url)
        if self.ssl_context is not None and not isinstance(self.ssl_context, ssl.SSLContext):
            raise TypeError(f"ssl_context must be an SSLContext or None, not {self.ssl_context!r}")
        if self.ssl_context is not None and not address.is_secure:
            raise ValueError(
                "ssl_context needs a url that begins with rediss:// or rediss+sentinel://: this one would not use TLS"
            )
        check_name("name", self.name)
        if isinstance(self.patience, bool) or self.patience != 0:  # 0 means not to wait at all
            check_positive("patience", self.patience)
        check_count("wait_replicas", self.wait_replicas, 0)

    @property
    def address(self) -> Address:
        """The server's address, read from `url`."""
        return Address.of(self.url)


@dataclass(frozen=True, kw_only=True)
class SenderOptions(StreamOptions):
    """What a sender is made of; one without a `lease` stays registered until it closes."""

    capacity: int
    producer: str | None
    encode: Callable[[Any], bytes | str]
    lease: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("capacity", self.capacity, 1)
        if self.producer is not None:
            check_name("producer", self.producer)
        check_function("encode", self.encode)
        if self.lease is not None:
            _check_lease(self.lease)


@dataclass(frozen=True, kw_only=True)
class ReceiverOptions(StreamOptions):
    """What a receiver is made of."""

    group: str
    receiver: str | None
    prefetch: int
    lease: float
    tries: float
    dead_letters: float
    decode: Callable[[bytes], Any]

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name("group", self.group)
        if self.receiver is not None:
            check_name("receiver", self.receiver)
        check_count("prefetch", self.prefetch, 1)
        _check_lease(self.lease)
        check_limit("tries", self.tries)
        check_limit("dead_letters", self.dead_letters)
        check_function("decode", self.decode)


def check_name(what: str, name: object) -> None:
    """Raise unless `name` is a word that keys can be made of."""
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a str, not {name!r}")
    if not name or "{" in name or "}" in name or any(character.isspace() for character in name):
        raise ValueError(f"{what} must be a word without braces, not {name!r}")


def _check_lease(lease: object) -> None:
    """Raise unless `lease` is a finite time above 0, in seconds."""
    if check_positive("lease", lease) == math.inf:
        raise ValueError("lease must be finite: what a dead process holds is delivered again after it")
