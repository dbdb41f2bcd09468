"""Text or bytes that come in parts, cut at a delimiter, without I/O.

Rule 1: where the parts were cut changes nothing, be it inside the delimiter.
Rule 2: work is linear in the input, however many parts a piece spans: only what is new is looked through.
Rule 3: what is held of an unfinished piece stays within the limit, but for one part.
"""

from __future__ import annotations

import io
from typing import Any, AnyStr, Generic


class Pieces(Generic[AnyStr]):
    """Text or bytes cut at a delimiter, each piece given when its delimiter has come.

    Args:
        delimiter: What ends a piece.
        limit: The longest piece, without its delimiter.
        what: What to call a piece.
        optional: What may stand before a delimiter and does not count for `limit` then.
    """

    def __init__(self, delimiter: AnyStr, limit: float, what: str, optional: AnyStr | None = None) -> None:
        kind: Any = type(delimiter)
        self._is_text: bool = issubclass(kind, str)
        self._delimiter: AnyStr = delimiter
        self._limit = limit
        self._what = what
        self._optional: AnyStr = optional or delimiter[:0]
        self._overlap = len(delimiter) - 1  # the most of a delimiter that may have come without the rest
        self._held: AnyStr = delimiter[:0]  # the end of the unfinished piece, where a delimiter may begin
        self._count = 0
        self._start_piece()

    def _start_piece(self) -> None:
        # A list of parts would cost 59 bytes for each chunk of two characters; these grow as an array does.
        self._parts: Any = io.StringIO() if self._is_text else io.BytesIO()
        self._length = 0

    def cut(self, text: AnyStr) -> list[AnyStr]:
        """Give the pieces that end in `text`, and keep the unfinished one."""
        if self._held:
            text = self._held + text
        may_be_too_long = self._length + len(text) > self._limit
        split: Any = text.split  # type checkers tell its kinds apart no further
        pieces: list[AnyStr] = split(self._delimiter)
        tail = pieces.pop()
        if pieces and self._length:
            self._parts.write(pieces[0])
            pieces[0] = self._parts.getvalue()
            self._start_piece()
        if self._overlap:
            self._held = tail[-self._overlap :]
            tail = tail[: -self._overlap]
        if tail:
            self._parts.write(tail)
            self._length += len(tail)
        if may_be_too_long:
            self._check(pieces)
        self._count += len(pieces)
        return pieces

    def rest(self) -> list[AnyStr]:
        """Give the unfinished piece, if there is one."""
        piece = self._parts.getvalue() + self._held
        if len(piece) > self._limit:
            raise self._too_long(1)
        return [piece] if piece else []

    def _check(self, pieces: list[AnyStr]) -> None:
        if pieces and max(map(len, pieces)) > self._limit:
            for number, piece in enumerate(pieces, 1):
                if len(piece.removesuffix(self._optional)) > self._limit:
                    raise self._too_long(number)
        if self._length > self._limit + len(self._optional):
            raise self._too_long(len(pieces) + 1)

    def _too_long(self, number: int) -> ValueError:
        unit = "characters" if self._is_text else "bytes"
        return ValueError(f"{self._what} {self._count + number} is longer than max_length, {self._limit} {unit}")
