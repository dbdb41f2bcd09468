r"""Parse and write CSV, with the standard library's `csv`.

Rule 1: how the input is cut into chunks changes no cell and no error. A quoted cell may contain line ends.
Rule 2: work is linear in the input: each line is checked for an open quote once, and only if it contains a quote.
Rule 3: each row has one cell for each column; otherwise the error names the row (R10).
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, Literal, TypedDict, Unpack, cast, overload

from trioflow._core.checks import check_codec, check_limit
from trioflow._core.fused import Operator
from trioflow._core.makers import differing, fused
from trioflow._core.streams import Transform, wanted
from trioflow.codecs.lines import LONGEST, LineCutter
from trioflow.codecs.text import check_incremental

_Header = bool | Sequence[str]

_Matches = Callable[[str], object]

AT_ONCE: Final = 4096  # lines that are parsed at once


class CsvFormat(TypedDict, total=False):
    """The formatting parameters of the standard library's `csv`. Each overrides that of the dialect."""

    delimiter: str
    quotechar: str | None
    doublequote: bool
    escapechar: str | None
    skipinitialspace: bool
    lineterminator: str
    quoting: int
    strict: bool


@overload
def parse_csv(
    *,
    header: Literal[True] | Sequence[str] = ...,
    dialect: str = ...,
    encoding: str = ...,
    max_length: float = ...,
    **options: Unpack[CsvFormat],
) -> Transform[bytes | str, dict[str, str]]: ...
@overload
def parse_csv(
    *,
    header: Literal[False],
    dialect: str = ...,
    encoding: str = ...,
    max_length: float = ...,
    **options: Unpack[CsvFormat],
) -> Transform[bytes | str, list[str]]: ...
def parse_csv(
    *,
    header: _Header = True,
    dialect: str = "excel",
    encoding: str = "utf-8-sig",
    max_length: float = LONGEST,
    **options: Unpack[CsvFormat],
) -> Transform[bytes | str, Any]:
    r"""Parse chunks of bytes or text as CSV, and emit a `dict` for each row, keyed by column. Blank lines are skipped.

    Emits when: a row has ended.
    Waits when: downstream is not ready.
    Ends when: the source ends, after the last row, which may lack its line end.
    On cancel: the unfinished row is lost.
    Holds: one batch of chunks, the rows of up to 256 KiB of it, and the unfinished row, up to `max_length`.

    Args:
        header: `True`: the first row names the columns. A sequence: these are the columns, and every row is data.
            `False`: rows are lists, and every row is data.
        dialect: One of `csv.list_dialects()`: `"excel"`, `"excel-tab"`, `"unix"`, or one that you registered.
        encoding: The encoding of chunks of bytes; chunks of `str` need none. The default skips the byte order
            mark that spreadsheets write.
        max_length: The longest row, in characters; `math.inf` for no limit. Each cell is also limited by
            `csv.field_size_limit()`, which applies to the whole process: 131,072 characters unless you raise it.
        options: Any of the standard library's formatting parameters: `delimiter`, `quotechar`, `escapechar`, ...

    Raises:
        TypeError: an argument has the wrong type; a chunk is neither bytes-like nor a `str`, or differs in kind
            from the first.
        LookupError: there is no such text encoding.
        ValueError: there is no such dialect, or `max_length` is below 1; while running: a row is too long, has too
            many or too few cells, or is not CSV; two columns have the same name.
        UnicodeDecodeError: the bytes are wrong, or end inside a character. A note says where in the input.
        EOFError: the input ends inside a quoted cell.

    Example:
        >>> rows = from_iterable([b'place,note\nattic,"war', b'm,\ndusty"\n']).pipe(parse_csv())
        >>> run(rows.pipe(collect()))
        [{'place': 'attic', 'note': 'warm,\ndusty'}]
    """
    _check_header("parse_csv", header)
    check_incremental("parse_csv", encoding)
    limit = check_limit("max_length", max_length)
    form = _dialect("parse_csv", dialect, options)
    given = differing(
        header=(header, True),
        dialect=(dialect, "excel"),
        encoding=(encoding, "utf-8-sig"),
        max_length=(max_length, LONGEST),
    )
    return fused(lambda: _ParseCsv(header, form, encoding, limit), "parse_csv", **given, **options)


def _check_header(name: str, header: object) -> None:
    if isinstance(header, bool):
        return
    if isinstance(header, str) or not isinstance(header, Sequence) or not all(isinstance(each, str) for each in header):
        raise wanted(f"{name}: header must be a bool or a sequence of column names", header)
    _check_columns(name, header)


def _check_columns(name: str, columns: Sequence[str]) -> None:
    if len({*columns}) < len(columns):
        twice = next(each for i, each in enumerate(columns) if each in columns[:i])
        raise ValueError(f"{name}: two columns are named {twice!r}; pass header= with names that differ")


def _dialect(name: str, dialect: object, options: CsvFormat) -> csv.Dialect:
    """Return the dialect as `csv` resolves it, with `options` applied."""
    if not isinstance(dialect, str):
        raise wanted(f"{name}: dialect must be the name of a dialect", dialect)
    if "quotechar" in options and options["quotechar"] is None:
        options = {"quoting": csv.QUOTE_NONE, **options}
    try:
        return cast("csv.Dialect", csv.reader((), dialect, **cast("Any", options)).dialect)
    except csv.Error:
        raise ValueError(f"{name}: there is no dialect {dialect!r}; csv.list_dialects() lists them") from None
    except TypeError as exc:
        raise TypeError(f"{name}: {exc}") from None


class _RowEnds:
    """Finds the lines that end a row. In doubt it answers no, which is safe: `csv` itself splits what it gets into rows."""

    def __init__(self, form: csv.Dialect) -> None:
        quote = form.quotechar if form.quoting != csv.QUOTE_NONE else None
        delimiter, escape = re.escape(form.delimiter), re.escape(form.escapechar or "")
        # After an escaped line end the cell continues.
        escaped = rf"|{escape}(?:[^\n]|\Z)" if escape else ""
        rest = field = closed = rf"(?:[^{delimiter}{escape}]{escaped})*+"
        if quote:
            mark = re.escape(quote)
            doubled = rf"|{mark}{mark}" if form.doublequote else ""
            closed = rf"(?:[^{mark}{escape}]{doubled}{escaped})*+{mark}{rest}"
            space = " *+" if form.skipinitialspace else ""
            field = rf"{space}(?:{mark}{closed}|(?!{mark}){rest})"
        more = rf"(?:{delimiter}{field})*+"

        def state(first: str) -> tuple[_Matches, _Matches]:
            row = first + more
            cut = rf"{row}{escape}\n" if escape else r"(?!)"  # a row whose last cell continues on the next line
            return re.compile(row, re.DOTALL).fullmatch, re.compile(cut, re.DOTALL).fullmatch

        self._at_start, self._in_quotes, self._in_cell = state(field), state(closed), state(rest)
        self._plain = re.compile(rf"[^{re.escape(quote or '')}{escape}]*+").fullmatch if quote or escape else str
        self._state = self._at_start  # where the next line begins
        self._has_quotes = bool(quote)

    @property
    def is_quoted(self) -> bool:
        """Whether the last line ended inside a quoted cell."""
        return self._state is self._in_quotes

    def complete(self, lines: list[str]) -> int:
        """Return how many of `lines` complete a row, given the lines before."""
        count = 0
        plain, at_start, state = self._plain, self._at_start, self._state
        for place, line in enumerate(lines, 1):
            # The simple pattern takes 0.1 µs; those that understand cells take 1.
            if (state is at_start and plain(line)) or state[0](line):
                count, state = place, at_start
            else:
                state = self._in_cell if state[1](line) or not self._has_quotes else self._in_quotes
        self._state = state
        return count


class _ParseCsv(Operator[Any, Any]):
    def __init__(self, header: _Header, form: csv.Dialect, encoding: str, limit: float) -> None:
        self._lines = LineCutter(encoding, limit, keep_ends=True, strict=False, name="parse_csv")
        self._form = form
        self._ends = _RowEnds(form)
        self._limit = limit
        self._held: list[str] = []  # the lines of the unfinished row
        self._length = 0  # of the held lines, in characters
        self._row = 0
        self._as_dict = header is not False
        self._columns = None if isinstance(header, bool) else [*header]

    def feed(self, items: list[Any]) -> Iterator[Any]:
        return self._rows(self._lines.feed(items))

    def flush(self) -> Iterator[Any]:
        yield from self._rows(self._lines.flush())
        if self._ends.is_quoted:
            raise EOFError(f"parse_csv: the input ends inside a quoted cell of row {self._row + 1}")
        yield from self._read(self._held)

    def _rows(self, lines: Iterable[str]) -> Iterator[Any]:
        unread = iter(lines)
        failure: Exception | None = None
        while failure is None:
            fresh: list[str] = []
            try:
                fresh.extend(islice(unread, AT_ONCE))
            except (ValueError, EOFError) as exc:
                failure = exc  # raised once the rows before it are out
            if not fresh and failure is None:
                return
            count = self._ends.complete(fresh)
            if count:
                whole, self._held, self._length = self._held + fresh[:count], fresh[count:], 0
                yield from self._read(whole)
            else:
                self._held += fresh
            self._length += sum(map(len, fresh[count:]))
            if self._length > self._limit:
                raise ValueError(f"parse_csv: row {self._row + 1} is longer than max_length, {self._limit} characters")
        raise failure

    def _read(self, lines: list[str]) -> Iterator[Any]:
        try:
            for cells in csv.reader(lines, self._form):
                if not cells:
                    continue
                self._row += 1
                if not self._as_dict:
                    yield cells
                elif self._columns is None:
                    _check_columns("parse_csv", cells)
                    self._columns = cells
                elif len(cells) == len(self._columns):
                    yield dict(zip(self._columns, cells, strict=True))
                else:
                    raise ValueError(
                        f"parse_csv: row {self._row} has {len(cells)} cells for {len(self._columns)} columns"
                    )
        except csv.Error as exc:
            raise ValueError(f"parse_csv: row {self._row + 1} cannot be read: {exc}") from None


def csv_rows(
    *, header: _Header = True, dialect: str = "excel", encoding: str = "utf-8", **options: Unpack[CsvFormat]
) -> Transform[Mapping[str, object] | Sequence[object], bytes]:
    r"""Write each item, a mapping or a sequence of cells, as a row of CSV.

    Emits when: an item arrives: one chunk each, and the header before the first.
    Waits when: downstream is not ready.
    Ends when: the source ends.
    On cancel: no state is lost.
    Holds: one batch, and its rows.

    Args:
        header: `True`: the keys of the first mapping name the columns, and are written first; sequences get no header.
            A sequence: these columns, in this order, are written first, even if there are no items. `False`: the keys
            of the first mapping set the order of the columns, and no header is written.
        dialect: One of `csv.list_dialects()`. The default, `"excel"`, ends lines with `\r\n` as RFC 4180 asks.
        encoding: The encoding to write; `"utf-8-sig"` writes the byte order mark that spreadsheets look for.
        options: Any of the standard library's formatting parameters: `delimiter`, `quoting`, `lineterminator`, ...

    Raises:
        TypeError: an argument has the wrong type; an item is neither a mapping nor a sequence.
        LookupError: there is no such text encoding.
        ValueError: there is no such dialect; an item lacks a column or has an extra one; a cell cannot be written.
        UnicodeEncodeError: a cell contains a character that `encoding` does not have.

    Example:
        >>> rows = from_iterable([{"place": "attic", "note": "warm, dusty"}])
        >>> run(rows.pipe(csv_rows()).pipe(join()))
        b'place,note\r\nattic,"warm, dusty"\r\n'
    """
    _check_header("csv_rows", header)
    check_codec("csv_rows", encoding)
    _dialect("csv_rows", dialect, options)
    given = differing(header=(header, True), dialect=(dialect, "excel"), encoding=(encoding, "utf-8"))
    return fused(lambda: _CsvRows(header, dialect, encoding, options), "csv_rows", **given, **options)


class _Echo:
    """A file for `csv.writer` whose `write` returns the text, so that `writerow` returns it too."""

    def write(self, text: str) -> str:
        return text


class _CsvRows(Operator[Any, bytes]):
    def __init__(self, header: _Header, dialect: str, encoding: str, options: CsvFormat) -> None:
        self._write: Any = csv.writer(cast("Any", _Echo()), dialect, **cast("Any", options)).writerow
        self._encode = codecs.getincrementalencoder(encoding)().encode
        self._writes_header = header is not False
        self._columns: list[str] | None = None if isinstance(header, bool) else [*header]
        self._row = 0

    def feed(self, items: list[Any]) -> list[bytes]:
        given = self._header_for(items[0]) if not self._row else []
        for item in items:
            self._row += 1
            given.append(self._line(self._cells(item)))
        return given

    def flush(self) -> list[bytes]:
        return self._header_for(()) if not self._row else []

    def _header_for(self, first: object) -> list[bytes]:
        if self._columns is None and isinstance(first, Mapping):
            self._columns = [*first]
        elif self._columns is None:
            return []
        return [self._line(self._columns)] if self._writes_header else []

    def _cells(self, item: Any) -> Any:
        columns = self._columns
        if isinstance(item, Mapping):
            if columns is None:
                raise ValueError(f"csv_rows: item {self._row} is a mapping, but the first was a sequence")
            if len(item) != len(columns) or any(column not in item for column in columns):
                raise ValueError(f"csv_rows: item {self._row} has the columns {[*item]}, expected {columns}")
            return [item[column] for column in columns]
        if isinstance(item, (str, bytes, bytearray)) or not isinstance(item, Sequence):
            raise TypeError(f"csv_rows expects mappings or sequences of cells, got {type(item).__name__}")
        if columns is not None and len(item) != len(columns):
            raise ValueError(f"csv_rows: item {self._row} has {len(item)} cells for {len(columns)} columns")
        return item

    def _line(self, cells: Any) -> bytes:
        try:
            return self._encode(self._write(cells))
        except csv.Error as exc:
            raise ValueError(f"csv_rows: item {self._row} cannot be written: {exc}") from None
