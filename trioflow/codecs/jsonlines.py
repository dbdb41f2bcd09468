r"""JSON lines, both ways: one value a line, as logs, exports and event feeds have them.

Rule 1: what is written is JSON in UTF-8, one `\n` behind each value and none in it; NaN and infinity are not JSON.
Rule 2: a line that is not JSON is told with its number and what stands around the place (R10).
Rule 3: how the input is cut into chunks changes nothing: neither a value, nor an error.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NoReturn

from trioflow._core.checks import BYTES_LIKE, check_flags, check_function, check_kinds, check_limit
from trioflow._core.errors import note
from trioflow._core.fused import Operator
from trioflow._core.labels import shown
from trioflow._core.makers import differing, fused
from trioflow._core.streams import Transform
from trioflow.codecs.pieces import Pieces, cut_portions

LONGEST: Final = 65536 * 16
AROUND: Final = 20  # characters shown before and behind the place where a line goes wrong


def json_lines(*, default: Callable[[Any], Any] | None = None) -> Transform[object, bytes]:
    r"""Write each item as a line of JSON, in UTF-8.

    Emits when: an item comes: one chunk for each, with `\n` at its end.
    Waits when: its reader does.
    Ends when: the source ends.
    On cancel: nothing of its own is lost.
    Holds: one batch, and its JSON.

    Args:
        default: Called with what JSON does not know, such as a date, to give something that it does.

    Raises:
        TypeError: `default` cannot be called; an item is nothing that JSON knows.
        ValueError: an item has NaN, an infinity or itself in it, or is nested too deeply. A note has the item's number.

    Example:
        >>> run(from_iterable([{"é": [1, None]}, "a\nb"]).pipe(json_lines()).pipe(join()))
        b'{"\xc3\xa9":[1,null]}\n"a\\nb"\n'
    """
    if default is not None:
        check_function("default", default)
    return fused(lambda: _JsonLines(default), "json_lines", **differing(default=(default, None)))


class _JsonLines(Operator[object, bytes]):
    def __init__(self, default: Callable[[Any], Any] | None) -> None:
        encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=default)
        self._encode = encoder.encode
        self._written = 0

    def feed(self, items: list[object]) -> list[bytes]:
        lines: list[bytes] = []
        try:
            for item in items:
                # Half a character, which `str` may have and UTF-8 does not, becomes \udXXX, which is its JSON too.
                lines.append((self._encode(item) + "\n").encode("utf-8", "backslashreplace"))
        except Exception as exc:
            failure = ValueError("it is nested too deeply to be JSON") if isinstance(exc, RecursionError) else exc
            note(failure, f"json_lines: item {self._written + len(lines) + 1} was {shown(items[len(lines)])}")
            if failure is exc:
                raise
            raise failure from None
        self._written += len(lines)
        return lines


def parse_json_lines(*, max_length: float = LONGEST, strict: bool = False) -> Transform[bytes | str, Any]:
    r"""Read chunks of bytes or of text as lines of JSON, and give their values. Blank lines are skipped.

    Emits when: a line has ended.
    Waits when: its reader does.
    Ends when: the source ends, behind an unfinished last line: that is a line like any other, unless `strict`.
    On cancel: the unfinished line is lost.
    Holds: one batch of chunks, the lines of at most 256 KiB of it, and the unfinished line, of `max_length` at most.

    Args:
        max_length: The longest line, in bytes or in characters as they come; `math.inf` for no limit.
        strict: Whether a last line without its `\n` is an error: half a number is a number too (R10).

    Raises:
        TypeError: an argument is of a wrong type; a chunk is neither bytes-like nor a `str`, or not of the first
            one's kind.
        ValueError: `max_length` is below 1; a line is longer, is nested too deeply, or is not JSON in UTF-8. The message
            has its number and what stands around the place, and names the encoding of a byte order mark.
        EOFError: it is `strict`, and the last line has no end.

    Example:
        >>> run(
        ...     from_iterable([b'{"a": 1}\n[2', b", 3]\nnull"])
        ...     .pipe(parse_json_lines())
        ...     .pipe(collect())
        ... )
        [{'a': 1}, [2, 3], None]
    """
    limit = check_limit("max_length", max_length)
    check_flags(strict=strict)
    given = differing(max_length=(max_length, LONGEST), strict=(strict, False))
    return fused(lambda: _ParseJsonLines(limit, strict=strict), "parse_json_lines", **given)


class _ParseJsonLines(Operator[Any, Any]):
    def __init__(self, limit: float, *, strict: bool) -> None:
        self._limit = limit
        self._strict = strict
        self._decode = json.JSONDecoder(parse_constant=_refuse).decode
        self._pieces: Pieces[Any] | None = None
        self._kind: type[Any] = bytes
        self._line = 0

    def feed(self, items: list[Any]) -> Iterator[Any]:
        if self._pieces is None:
            check_kinds("parse_json_lines wants chunks of bytes or str", items[:1], (*BYTES_LIKE, str))
            self._kind = str if isinstance(items[0], str) else bytes
            end: Any = "\n" if self._kind is str else b"\n"
            self._pieces = Pieces(end, self._limit, "line", strict=self._strict)
        pieces, why = self._pieces, "as the first was"
        return self._values(cut_portions(pieces, pieces.cut, "parse_json_lines", why, items, self._kind))

    def flush(self) -> Iterator[Any]:
        return self._values([] if self._pieces is None else self._pieces.rest())

    def _values(self, lines: Iterable[Any]) -> Iterator[Any]:
        for line in lines:
            self._line += 1
            if not line or line.isspace():
                continue
            try:
                value = self._decode(line if self._kind is str else str(line, "utf-8"))
            except json.JSONDecodeError as exc:
                raise self._wrong(f"{exc.msg} at column {exc.colno}", exc.doc, exc.pos) from None
            except UnicodeDecodeError as exc:
                raise self._wrong(f"{exc.reason} at byte {exc.start + 1}", line, exc.start) from None
            except RecursionError:
                raise self._wrong("it is nested too deeply", line, 0) from None
            except ValueError as exc:  # a number that Python does not read, such as one of 5,000 digits
                raise self._wrong(str(exc), line, 0) from None
            yield value

    def _wrong(self, reason: str, line: Any, place: int) -> ValueError:
        if self._line == 1 and (encoding := _marked_encoding(line)):
            reason = f'it begins with a byte order mark (BOM): put tf.decode("{encoding}") before this'
        start, stop = max(place - AROUND, 0), place + AROUND
        before, behind = "..." if start else "", "..." if stop < len(line) else ""
        return ValueError(f"line {self._line} is not JSON: {reason}: {before}{line[start:stop]!r}{behind}")


def _marked_encoding(line: Any) -> str:
    """Return the encoding that takes away the byte order mark which `line` begins with, if it does."""
    if isinstance(line, str):
        return "utf-8-sig" if line.startswith("\ufeff") else ""
    return "utf-16" if bytes(line[:2]) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else ""


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
