r"""Parse and write JSON lines, one value on each line, as used by logs, exports and event feeds.

Rule 1: the output is JSON in UTF-8, with one `\n` after each value and none in it; NaN and infinity are errors.
Rule 2: the error for a line that is not JSON has the line's number and the text around the mistake (R10).
Rule 3: how the input is cut into chunks changes no value and no error.
Rule 4: values and errors are the same with and without msgspec. It gets batches of what both libraries treat alike. If
    one line or item of a batch is anything else, the standard library does the whole batch.
"""

from __future__ import annotations

import codecs
import importlib
import io
import json
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from math import isfinite
from typing import Any, Final, NoReturn

from trioflow._core.checks import BYTES_LIKE, check_flags, check_function, check_kinds, check_limit
from trioflow._core.errors import note
from trioflow._core.fused import Operator
from trioflow._core.labels import shown
from trioflow._core.makers import differing, fused
from trioflow._core.streams import Transform
from trioflow.codecs.pieces import Pieces, cut_portions

LONGEST: Final = 65536 * 16
AROUND: Final = 20  # characters of a wrong line that are shown before and after the mistake
# Bytes or characters parsed at once; of 64 KiB the values start the garbage collector, 0.2 µs a line.
PORTION: Final = 1 << 15


@cache
def _library() -> Any:
    """Return msgspec's JSON module, or None if it is not installed."""
    # Of the libraries that are faster than `json`, msgspec 0.22 reads the same values: a line of 200 bytes in 0.9 µs,
    # `json` takes 3.4. orjson 3.13 takes 1.0, but turns ints of over 64 bits into floats. To write such an item, orjson
    # takes 1.7 µs, msgspec 0.4, or 1.3 with `_are_plain`, and `json` 3.8.
    try:
        return importlib.import_module("msgspec.json")
    except ImportError:
        return None


def json_lines(*, default: Callable[[Any], Any] | None = None) -> Transform[object, bytes]:
    r"""Write each item as a line of JSON, in UTF-8.

    Emits when: an item arrives: one chunk each, which ends with `\n`.
    Waits when: downstream is not ready.
    Ends when: the source ends.
    On cancel: no state is lost.
    Holds: one batch, and up to twice its JSON.

    With `trioflow[msgspec]` installed, items made of JSON's own types are written two to three times as fast, and floats with
    an exponent are shorter: `1e16`, and not `1e+16` as in the standard library.

    Args:
        default: Called with each value that JSON cannot express, such as a date; returns one that it can.

    Raises:
        TypeError: `default` is not callable; JSON cannot express an item.
        ValueError: an item contains NaN, an infinity or itself, or is nested too deeply. A note gives the item's number.

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
        library = _library()
        self._encode = encoder.encode
        self._encode_fast: Callable[[list[object]], bytes] | None = library and library.Encoder().encode_lines
        self._written = 0

    def feed(self, items: list[object]) -> list[bytes]:
        lines: list[bytes] = []
        if self._encode_fast is not None:
            try:
                if _are_plain(items):
                    # 0.36 µs for an item of 200 bytes; to encode each by itself and add its end takes 0.48.
                    lines = io.BytesIO(self._encode_fast(items)).readlines()
                    self._written += len(lines)
                    return lines
            except (RecursionError, UnicodeEncodeError):  # the latter for half of a surrogate pair
                lines = []
        try:
            for item in items:
                # Half of a surrogate pair, which `str` may contain and UTF-8 not, becomes \udXXX, as JSON writes it.
                lines.append((self._encode(item) + "\n").encode("utf-8", "backslashreplace"))
        except Exception as exc:
            failure = ValueError("the item is nested too deeply for JSON") if isinstance(exc, RecursionError) else exc
            note(failure, f"json_lines: item {self._written + len(lines) + 1} was {shown(items[len(lines)])}")
            if failure is exc:
                raise
            raise failure from None
        self._written += len(lines)
        return lines


def _are_plain(values: Iterable[Any]) -> bool:
    """Return whether `values` consist of exactly JSON's types, at every level: msgspec also writes dates and more."""
    # 0.95 µs for 15 values and 13 keys. `set(map(type, ...))` over a whole batch is no faster, level by level or field by
    # field: `type` takes 20 ns when it is called, and none here.
    for value in values:
        kind = type(value)
        if kind is str or kind is int:
            continue
        if kind is float:
            if not isfinite(value):
                return False
        elif kind is dict:
            for key in value:
                if type(key) is not str:
                    return False
            if not _are_plain(value.values()):
                return False
        elif kind is list or kind is tuple:
            if not _are_plain(value):
                return False
        elif kind is not bool and value is not None:
            return False
    return True


def parse_json_lines(*, max_length: float = LONGEST, strict: bool = False) -> Transform[bytes | str, Any]:
    r"""Parse chunks of bytes or text as lines of JSON, and emit their values. Blank lines are skipped.

    With `trioflow[msgspec]` installed it reads three times as fast; values and errors are the same.

    Emits when: a line has ended.
    Waits when: downstream is not ready.
    Ends when: the source ends, after a last line without an end, if there is one (an error if `strict`).
    On cancel: the unfinished line is lost.
    Holds: one batch of chunks, the values of up to 32 KiB of it, and the unfinished line, up to `max_length`.

    Args:
        max_length: The longest line, in bytes or characters like the chunks; `math.inf` for no limit.
        strict: Whether a last line without its `\n` is an error. The start of a number is a number too, so without
            `strict` a truncated input may pass for complete.

    Raises:
        TypeError: an argument has the wrong type; a chunk is neither bytes-like nor a `str`, or differs in kind
            from the first.
        ValueError: `max_length` is below 1; a line is too long, is nested too deeply, or is not JSON in UTF-8. The message
            has the line's number and the text around the mistake. After a byte order mark it names the encoding to use.
        EOFError: with `strict`, the last line has no end.

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
        library = _library()
        decoder = json.JSONDecoder(parse_constant=_refuse)
        self._limit = limit
        self._strict = strict
        self._decode = decoder.decode
        self._decode_start = decoder.raw_decode
        self._decode_fast: Callable[[Any], Any] | None = library and library.Decoder().decode
        self._pieces: Pieces[Any] | None = None
        self._kind: type[Any] = bytes
        self._line = 0

    def feed(self, items: list[Any]) -> Iterable[Any]:
        if self._pieces is None:
            check_kinds("parse_json_lines expects chunks of bytes or str", items[:1], (*BYTES_LIKE, str))
            self._kind = str if isinstance(items[0], str) else bytes
            end: Any = "\n" if self._kind is str else b"\n"
            self._pieces = Pieces(end, self._limit, "line", strict=self._strict, keep_ends=self._kind is bytes)
        why = "as the first was"
        return cut_portions(self._pieces, self._cut, "parse_json_lines", why, items, self._kind, PORTION)

    def flush(self) -> Iterable[Any]:
        return () if self._pieces is None else self._values(self._pieces.rest())

    def _cut(self, portion: Any) -> Iterable[Any]:
        assert self._pieces is not None
        return self._values(self._pieces.cut(portion))

    def _values(self, lines: list[Any]) -> Iterable[Any]:
        """Parse all `lines` at once; if one of them is blank or wrong, parse them one by one."""
        try:
            values = self._at_once(lines)
        except Exception:  # noqa: BLE001 - the wrong line raises its own error below, after the values before it
            return self._one_by_one(lines)
        self._line += len(lines)
        return values

    def _at_once(self, lines: list[Any]) -> list[Any]:
        if self._decode_fast is not None:
            return [*map(self._decode_fast, lines)]
        texts = [(line if self._kind is str else str(line, "utf-8")).rstrip("\r\n") for line in lines]
        # 2.6 µs for a line of 200 bytes; `decode`, which also skips white space around the value, takes 3.3.
        found = [*map(self._decode_start, texts)]
        if [end for _, end in found] != [*map(len, texts)]:
            raise ValueError("there is something after a value")
        return [value for value, _ in found]

    def _one_by_one(self, lines: list[Any]) -> Iterator[Any]:
        for ended in lines:
            self._line += 1
            if not ended or ended.isspace():
                continue
            line = ended.removesuffix("\n" if self._kind is str else b"\n")
            try:
                value = self._decode(line if self._kind is str else str(line, "utf-8"))
            except json.JSONDecodeError as exc:
                raise self._wrong(f"{exc.msg} at column {exc.colno}", exc.doc, exc.pos) from None
            except UnicodeDecodeError as exc:
                raise self._wrong(f"{exc.reason} at byte {exc.start + 1}", line, exc.start) from None
            except RecursionError:
                raise self._wrong("nested too deeply", line, 0) from None
            except ValueError as exc:  # a number that Python refuses, such as one with 5,000 digits
                raise self._wrong(str(exc), line, 0) from None
            yield value

    def _wrong(self, reason: str, line: Any, place: int) -> ValueError:
        if self._line == 1 and (encoding := _marked_encoding(line)):
            reason = f'it begins with a byte order mark (BOM); pipe through tf.decode("{encoding}") first'
        start, stop = max(place - AROUND, 0), place + AROUND
        before, behind = "..." if start else "", "..." if stop < len(line) else ""
        return ValueError(f"line {self._line} is not JSON: {reason}: {before}{line[start:stop]!r}{behind}")


def _marked_encoding(line: Any) -> str:
    """Return the encoding to decode with if `line` begins with a byte order mark, or an empty string."""
    if isinstance(line, str):
        return "utf-8-sig" if line.startswith("\ufeff") else ""
    return "utf-16" if bytes(line[:2]) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else ""


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
