"""Operators that cut chunks of bytes to size, count them or hash them. The bytes stay the same.

Rule 1: how the input is cut into chunks never changes a result; `limit_bytes` and `digest` pass chunks on unchanged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, Final

from trioflow._core.checks import check_count, check_kinds
from trioflow._core.engine import Stage
from trioflow._core.fused import Operator
from trioflow._core.makers import fused
from trioflow._core.streams import Transform, label, wanted

SMALL: Final = 4096  # bytes; it is faster to join smaller chunks before they are cut


def rechunk(size: int) -> Transform[bytes, bytes]:
    """Cut bytes into chunks of exactly `size`; the last one may be shorter.

    Emits when: `size` bytes have arrived since the last chunk.
    Waits when: downstream is not ready; a large chunk is cut as downstream has room.
    Ends when: the source ends, after the rest if there is any.
    On cancel: the unfinished chunk is lost.
    Holds: the unfinished chunk (two copies of it for a moment when it is complete), and one batch.

    Raises:
        TypeError: `size` is not an int; a chunk is not bytes-like.
        ValueError: `size` is below 1.

    Example:
        >>> run(from_iterable([b"abc", b"de"]).pipe(rechunk(2)).pipe(collect()))
        [b'ab', b'cd', b'e']
    """
    check_count("size", size, 1)
    return fused(lambda: _Rechunk(size), "rechunk", size)


class _Rechunk(Operator[Any, bytes]):
    def __init__(self, size: int) -> None:
        self._size = size
        self._held = bytearray()  # less than `size`

    def feed(self, items: list[Any]) -> Iterator[bytes]:
        check_kinds("rechunk expects bytes", items)
        if len(items) > 1 and len(items[0]) < SMALL:
            items = [b"".join(items)]  # one by one, small chunks would cost 1.4 µs each
        return (chunk for item in items for chunk in self._cut(item))

    def _cut(self, item: Any) -> Iterator[bytes]:
        if type(item) is bytes and len(item) == self._size and not self._held:
            yield item
            return
        # A bytearray is copied: while a view of it exists, its owner cannot resize it.
        view = memoryview(bytes(item) if isinstance(item, bytearray) else item).cast("B")
        at = min(self._size - len(self._held), len(view)) if self._held else 0
        self._held += view[:at]
        if len(self._held) == self._size:
            yield bytes(self._held)
            self._held.clear()
        whole = len(view) - (len(view) - at) % self._size
        for start in range(at, whole, self._size):
            yield bytes(view[start : start + self._size])
        self._held += view[whole:]

    def flush(self) -> list[bytes]:
        return [bytes(self._held)] if self._held else []


def limit_bytes(limit: int) -> Transform[bytes, bytes]:
    """Pass each chunk on unchanged, and fail once the input exceeds `limit` bytes.

    Use it before a stage that holds everything, such as `join`. To read only the first bytes of a file, see `read_file`.

    Emits when: a chunk arrives.
    Waits when: downstream is not ready.
    Ends when: the source ends.
    On cancel: no state is lost.
    Holds: one batch.

    Raises:
        TypeError: `limit` is not an int; a chunk is not bytes-like.
        ValueError: `limit` is below 0; the input is longer.

    Example:
        >>> run(from_iterable([b"abc", b"de"]).pipe(limit_bytes(5)).pipe(join()))
        b'abcde'
    """
    check_count("limit", limit, 0)
    return fused(lambda: _LimitBytes(limit), "limit_bytes", limit)


class _LimitBytes(Operator[Any, Any]):
    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0

    def feed(self, items: list[Any]) -> list[Any]:
        check_kinds("limit_bytes expects bytes", items)
        self._count += sum(item.nbytes if isinstance(item, memoryview) else len(item) for item in items)
        if self._count > self._limit:
            raise ValueError(f"limit_bytes: the input is longer than {self._limit} bytes")
        return items


class Digest(Transform[bytes, bytes]):
    """A transform that keeps the hash of the bytes of its last complete run. Made by `digest`."""

    __slots__ = ("_hash",)

    def __init__(self, algorithm: str) -> None:
        name = label("digest", *([] if algorithm == "sha256" else [algorithm]))
        self._set(Stage(name, factory=lambda: _Digest(hashlib.new(algorithm), self._keep)))
        self._hash: Any = None

    def _keep(self, given: Any) -> None:
        self._hash = given

    def digest(self) -> bytes:
        """Return the hash as bytes.

        Raises:
            RuntimeError: no run has ended yet.
        """
        return bytes(self._ended().digest())

    def hexdigest(self) -> str:
        """Return the hash as hexadecimal digits. Raises as `digest` does."""
        return str(self._ended().hexdigest())

    def _ended(self) -> Any:
        if self._hash is None:
            raise RuntimeError("digest: no run has ended yet; read the hash after a run")
        return self._hash


def digest(algorithm: str = "sha256") -> Digest:
    """Pass each chunk on unchanged, and hash them all. After the run, call `hexdigest()` or `digest()` on this value.

    Each run starts a new hash, and you get that of the last complete run. A run that failed, was cancelled or was left
    early changes nothing.

    Emits when: a chunk arrives.
    Waits when: downstream is not ready.
    Ends when: the source ends.
    On cancel: the hash so far is lost.
    Holds: one batch.

    Args:
        algorithm: As for `hashlib.new`; its hash must have a fixed length.

    Raises:
        TypeError: `algorithm` is not a `str`; a chunk is not bytes-like.
        ValueError: there is no such algorithm, or its hash does not have a fixed length.

    Example:
        >>> sha = digest()
        >>> run(from_iterable([b"ab", b"c"]).pipe(sha).pipe(join()))
        b'abc'
        >>> sha.hexdigest()[:16]
        'ba7816bf8f01cfea'
    """
    if not isinstance(algorithm, str):
        raise wanted("digest expects the name of an algorithm", algorithm)
    if not hashlib.new(algorithm).digest_size:
        raise ValueError(f"digest expects an algorithm with a hash of fixed length, got {algorithm!r}")
    return Digest(algorithm)


class _Digest(Operator[Any, Any]):
    def __init__(self, hash_: Any, keep: Callable[[Any], None]) -> None:
        self._hash = hash_
        self._keep = keep

    def feed(self, items: list[Any]) -> list[Any]:
        check_kinds("digest expects bytes", items)
        for item in items:
            self._hash.update(item)
        return items

    def flush(self) -> tuple[()]:
        self._keep(self._hash)
        return ()
