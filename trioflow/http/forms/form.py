"""Reads HTML forms as a stream of parts, in which each file is a stream too.

Rule 1: a form is never held in memory as a whole: fields are, up to a limit, but files are streamed at their reader's pace.
Rule 2: a file that is not being read when the next part is requested is skipped; a file that is being read delays the
    parts after it.
Rule 3: a malformed form raises the same `RequestError` in the task that reads the parts and in one that reads a file.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

import trio

from trioflow._core.adapters import Once
from trioflow._core.channel import SendChannel
from trioflow._core.checks import check_limit, check_type
from trioflow._core.engine import Stage
from trioflow._core.errors import HangUp
from trioflow._core.moving import forward
from trioflow._core.open_channel import open_channel
from trioflow._core.streams import Readable, label
from trioflow.http._request import Request
from trioflow.http.forms.charsets import codec_of, decode, named_by_client
from trioflow.http.forms.multipart import Multipart, PartHead
from trioflow.http.forms.parameters import content_type
from trioflow.http.wire.headers import Headers
from trioflow.http.wire.limits import RequestError
from trioflow.operators.sources import from_iterable

_AHEAD: Final = 16  # the weight of 64 KiB
_PIECE: Final = 4096  # bytes of an urlencoded form to decode between two checkpoints: 0.3 ms if all are percent-encoded
_COST: Final = 64  # what each name and value adds to that, in bytes
_EVENTS: Final = 32  # multipart events between two checkpoints: a tiny part costs 50 µs


class Part:
    """One field or one file of a form.

    Attributes:
        name: The name of the field, which may be `""`.
        filename: The client's name for the file, or None for a field. Never use it as a path to write to.
        headers: The header fields of this part, such as `content-type`.
        body: The bytes, as a Readable. You can read a field any number of times, but a file only once, and you must begin
            before you request the next part.
    """

    __slots__ = ("_codec", "_value", "body", "filename", "headers", "name")

    def __init__(self, head: PartHead, value: bytes | None, body: Readable[bytes], codec: str = "utf_8") -> None:
        self.name, self.filename, self.headers = head
        self.body = body
        self._value = value
        self._codec = codec

    @property
    def value(self) -> str:
        """The text of a field, decoded with the charset of its `Content-Type` or else of the form.

        Raises:
            RequestError: the text is not in that charset, or the charset is unknown. The message names the field and the
                byte.
            TypeError: this part is a file.
        """
        if self._value is None:
            raise TypeError(f"the part {self.name!r} is a file, so it has no value; read its body")
        codec = self._codec
        if "content-type" in self.headers and (named := content_type(self.headers["content-type"])[1].get("charset")):
            codec = named_by_client(named)
        return decode(self._value, codec, f"the field {self.name!r}")

    def __repr__(self) -> str:
        return f"<Part {self.name!r}{'' if self.filename is None else f', file {self.filename!r}'}>"


def form(
    request: Request,
    *,
    count: float = 1000,
    header_size: float = 8192,
    field_size: float = 1 << 20,
    file_size: float = math.inf,
    size: float = math.inf,
    encoding: str = "utf-8",
) -> Readable[Part]:
    """Read a form from a request's body part by part, as multipart/form-data or application/x-www-form-urlencoded.

        async with http.form(request).open() as parts:
            async for part in parts:
                if part.filename is None:
                    print(part.name, part.value)
                else:
                    await part.body.pipe(tf.write_file(directory / str(uuid.uuid4())))

    Emits when: a whole field has arrived, or the head of a file.
    Waits when: its reader does; and after a file, until you have read it or request the next part.
    Ends when: the form ends. A file that is not being read when you request the next part is skipped, so begin to read it
        in the task that receives the parts.
    On cancel: the rest is lost.
    Holds: up to `field_size` bytes of fields, 64 KiB of a file, and twice what `request.body` holds; all of an urlencoded
        form.

    Args:
        request: The request to read. Its body can be read only once.
        count: The largest number of parts.
        header_size: The largest size of one part's header fields, in bytes.
        field_size: The largest size of all fields together, without files, in bytes. Fields are held in memory.
        file_size: The largest size of one file, in bytes.
        size: The largest size of the whole form, in bytes; `Limits.body_size` applies as well.
        encoding: The charset of names and fields, unless the form names another: in the `Content-Type` of the form or of
            a part, or in an earlier field `_charset_`, which browsers fill in. Browsers use the charset of the page.

    Raises:
        RequestError: at once, if the request has no form (415, or 400); when it runs, if the form is malformed or cut
            off (400), or exceeds a limit (413). Let it propagate: the server answers with that status.
        TypeError, ValueError: a limit is neither an int of 1 or more, nor `math.inf`; or `encoding` is not a charset that
            forms are sent in.
    """
    check_type("form: request", request, Request, "a Request")
    for name, limit in (("count", count), ("header_size", header_size), ("field_size", field_size),
                        ("file_size", file_size), ("size", size)):  # fmt: skip
        check_limit(name, limit)
    check_type("form: encoding", encoding, str, "a str")
    if (codec := codec_of(encoding)) is None:
        raise ValueError(f"form: encoding must be a charset such as 'utf-8' or 'windows-1252', got {encoding!r}")
    if not (given := request.headers.get("content-type")):
        raise RequestError(415, "expected a form, but the request has no Content-Type")
    kind, parameters = content_type(given)
    if "charset" in parameters:
        codec = named_by_client(parameters["charset"])
    run: Callable[[SendChannel[Part]], Awaitable[None]]
    if kind == "multipart/form-data":
        parser = Multipart(parameters.get("boundary", ""), count=count, header_size=header_size, codec=codec)
        run = _Parts(request, parser, field_size=field_size, file_size=file_size, size=size).run
    elif kind == "application/x-www-form-urlencoded":
        run = _Pairs(request, count, min(field_size, size), codec).run
    else:
        raise RequestError(415, f"expected a form, got {kind}")
    return Readable._of(Stage(label("form"), function=Once(run, f"the form of this {request.method} request")))


@dataclass
class _Meter:
    """Counts the bytes of a form, and refuses more than `most`."""

    most: float
    size: int = 0

    def passed(self, chunk: bytes) -> bytes:
        self.size += len(chunk)
        if self.size > self.most:
            raise RequestError(413, f"the form is larger than {self.most} bytes")
        return chunk


class _Pairs:
    """An urlencoded form: small, and only fields."""

    def __init__(self, request: Request, count: float, size: float, codec: str) -> None:
        self._request = request
        self._codec = codec
        self._count = count
        self._size = size
        self._work = 0  # since the last checkpoint, in bytes

    async def run(self, output: SendChannel[Part]) -> None:
        body, meter = bytearray(), _Meter(self._size)
        async with self._request.body.open(capacity=_AHEAD) as chunks:
            async for chunk in chunks:
                body += meter.passed(chunk)
        if body.count(b"&") >= self._count:  # before it is split: a MiB of `&` takes 0.3 s
            raise RequestError(413, f"the form has more than {self._count} fields")
        codec = self._codec
        for pair in bytes(body).split(b"&"):
            if pair:
                name, _, value = pair.partition(b"=")
                head = PartHead(decode(await self._unquoted(name), codec, "the name of a field"), None, Headers())
                part = _field(head, await self._unquoted(value), codec)
                codec = _codec_after(part)
                await output.send(part)

    async def _unquoted(self, data: bytes) -> bytes:
        """Decode a percent-encoded name or value, and let other tasks run meanwhile."""
        pieces: list[bytes] = []
        start = 0
        while start < len(data):
            stop = start + _PIECE
            if stop < len(data) and (cut := data.find(b"%", stop - 2, stop)) >= 0:
                stop = cut  # so that no escape is split
            pieces.append(unquote_to_bytes(data[start:stop].replace(b"+", b" ")))
            self._work += min(stop, len(data)) - start + _COST
            start = stop
            if self._work >= _PIECE:
                self._work = 0
                await trio.lowlevel.checkpoint()
        return b"".join(pieces)


class _Parts:
    """A multipart form."""

    def __init__(
        self, request: Request, parser: Multipart, *, field_size: float, file_size: float, size: float
    ) -> None:
        self._request = request
        self._parser = parser
        self._field_size = field_size
        self._file_size = file_size
        self._meter = _Meter(size)
        self._head: PartHead | None = None  # of the current field
        self._value = bytearray()
        self._fields = 0  # bytes in all fields so far
        self._file: _File | None = None  # the last file
        self._events = 0

    async def run(self, output: SendChannel[Part]) -> None:
        def skip() -> None:
            if self._file is not None:
                self._file.skip()

        output._on_wanted(skip)
        try:
            async with self._request.body.open(capacity=_AHEAD) as chunks:
                async for chunk in chunks:
                    for event in self._parser.feed(self._meter.passed(chunk)):
                        await self._take(event, output)
                        self._events += 1
                        if not self._events % _EVENTS:
                            await trio.lowlevel.checkpoint()
            self._parser.end()
        except BaseException as exc:
            if self._file is not None:
                self._file.fail(exc)
            raise
        finally:
            output._on_wanted(None)

    async def _take(self, event: PartHead | bytes | None, output: SendChannel[Part]) -> None:
        if isinstance(event, PartHead):
            if self._file is not None:
                await self._file.settled.wait()
                self._file = None
            if event.filename is None:
                self._head = event
            else:
                self._file = _File(event.name, self._file_size)
                await output.send(self._file.part(event))
        elif self._head is None:
            assert self._file is not None
            await (self._file.end() if event is None else self._file.put(event))
        elif event is not None:
            self._fields += len(event)
            if self._fields > self._field_size:
                raise RequestError(413, f"the fields of the form are larger than {self._field_size} bytes")
            self._value += event
        else:
            part = _field(self._head, bytes(self._value), self._parser.codec)
            self._parser.codec = _codec_after(part)
            self._head = None
            self._value.clear()
            await output.send(part)


class _File:
    """The body of a file, passed from the form to its reader, if it has one."""

    def __init__(self, name: str, most: float) -> None:
        self._name = name
        self._most = most
        self._size = 0
        self._send, self._receive = open_channel[bytes](_AHEAD)
        self._is_wanted = True
        self._failure: BaseException | None = None
        self.settled = trio.Event()  # it is being read, or was skipped

    def part(self, head: PartHead) -> Part:
        body: Readable[bytes] = Readable._of(
            Stage(label("body"), function=Once(self._read, f"the file {self._name!r} of a form"))
        )
        return Part(head, None, body)

    def skip(self) -> None:
        if not self.settled.is_set():
            self._receive.close()
            self.settled.set()

    async def put(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size > self._most:
            raise RequestError(413, f"the file {self._name!r} is larger than {self._most} bytes")
        if self._is_wanted:
            try:
                await self._send.send(chunk)
            except HangUp:
                self._is_wanted = False

    async def end(self) -> None:
        self._send.close()
        await trio.lowlevel.checkpoint_if_cancelled()

    def fail(self, failure: BaseException) -> None:
        if isinstance(failure, Exception):
            self._failure = failure
        self._send.abort(failure)
        self._send.close()

    async def _read(self, output: SendChannel[bytes]) -> None:
        if self.settled.is_set():
            raise trio.ClosedResourceError(
                f"the file {self._name!r} was skipped, because the next part was requested before its body was read"
            )
        self.settled.set()
        with self._receive:
            try:
                await forward(self._receive, output)
            except HangUp as exc:
                if not self._receive._has_raised(exc):
                    raise  # its reader has stopped
                raise self._failure or trio.BrokenResourceError("the form was not read to its end") from None


def _field(head: PartHead, value: bytes, codec: str) -> Part:
    return Part(head, value, from_iterable([value] if value else []), codec)


def _codec_after(field: Part) -> str:
    """Return Python's name for the charset that applies after a field."""
    return named_by_client(field.value) if field.name == "_charset_" and field._value else field._codec
