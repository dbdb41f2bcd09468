"""The arguments of the public functions, checked once when the call is made and then passed on as one value."""

from __future__ import annotations

import json
import math
import os
import random
import secrets
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from trioflow._core.checks import check_count, check_function, check_limit, check_positive, check_type
from trioflow.redis.address import Address

CAPACITY: Final = 1000  # entries
PREFETCH: Final = 16  # entries in a chain
LEASE: Final = 30.0  # seconds
TRIES: Final = 5
DEAD_LETTERS: Final = 10_000
MAX_RETRY_DELAY: Final = 3600.0  # seconds
RETRY_JITTER: Final = 0.5  # so that entries that failed together are not retried in lockstep
IDEMPOTENCY_WINDOW: Final = 86400.0  # seconds
LONGEST: Final = 1e9  # seconds, about thirty years: limit of times that the server adds up

_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def to_json(item: Any) -> bytes:
    """Encode an item as compact JSON, the default; NaN and the infinities are refused."""
    return _encoder.encode(item).encode()


def unique_name() -> str:
    """Return a name for a sender or receiver that no other has, made of the host and the process id."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


@dataclass(frozen=True)
class StreamOptions:
    """The stream, its server, the patience when that is lost, the TLS context, and how many replicas must confirm."""

    url: str
    name: str
    patience: float = math.inf
    ssl_context: ssl.SSLContext | None = None
    wait_replicas: int = 0

    def __post_init__(self) -> None:
        address = Address.of(self.url)
        check_type("ssl_context", self.ssl_context, ssl.SSLContext | None, "an SSLContext or None")
        if self.ssl_context is not None and not address.is_secure:
            raise ValueError(
                "ssl_context needs a url that begins with rediss:// or rediss+sentinel://; this one does not use TLS"
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
    """The options of a sender; without a `lease` it stays registered until it closes."""

    capacity: int
    producer: str | None
    encode: Callable[[Any], bytes | str]
    idempotency_window: float
    lease: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("capacity", self.capacity, 1)
        if self.producer is not None:
            check_name("producer", self.producer)
        check_function("encode", self.encode)
        to_milliseconds("idempotency_window", self.idempotency_window)
        if self.lease is not None:
            _check_lease(self.lease)


@dataclass(frozen=True, kw_only=True)
class ReceiverOptions(StreamOptions):
    """The options of a receiver."""

    group: str
    receiver: str | None
    prefetch: int
    lease: float
    tries: float
    dead_letters: float
    retry_delay: float
    max_retry_delay: float
    decode: Callable[[Any], Any]

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name("group", self.group)
        if self.receiver is not None:
            check_name("receiver", self.receiver)
        check_count("prefetch", self.prefetch, 1)
        _check_lease(self.lease)
        check_limit("tries", self.tries)
        check_limit("dead_letters", self.dead_letters)
        delay_of("retry_delay", self.retry_delay)
        to_milliseconds("max_retry_delay", self.max_retry_delay)
        check_function("decode", self.decode)

    def delay_after(self, tries: int) -> int:
        """Return the retry delay after a number of tries, in milliseconds."""
        pause = min(self.retry_delay * 2.0 ** min(tries - 1, 64), self.max_retry_delay)
        return math.ceil(pause * 1000 * (1 - RETRY_JITTER * random.random()))


def check_name(what: str, name: object) -> None:
    """Raise unless `name` is a word that can be part of a key."""
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a str, got {name!r}")
    if not name or "{" in name or "}" in name or any(character.isspace() for character in name):
        raise ValueError(f"{what} must be a word without spaces and braces, got {name!r}")


def to_milliseconds(what: str, seconds: float) -> int:
    """Return a time in milliseconds, for the scripts. Raise unless it is above 0, and at most `LONGEST`."""
    if check_positive(what, seconds) > LONGEST:
        raise ValueError(f"{what} must be at most {LONGEST:,.0f} seconds, got {seconds}")
    return math.ceil(seconds * 1000)


def delay_of(what: str, seconds: float) -> int:
    """Return a time in milliseconds, for the scripts; it may be 0."""
    return 0 if seconds == 0 and not isinstance(seconds, bool) else to_milliseconds(what, seconds)


def _check_lease(lease: object) -> None:
    """Raise unless `lease` is a finite time above 0, in seconds."""
    if check_positive("lease", lease) == math.inf:
        raise ValueError("lease must be finite: it is how long the entries of a dead process wait")
