"""Forms as browsers send them: a stream of parts, files as they come.

Rule 1: a form is never held as a whole: fields are held, within a limit; files are streamed, and wait for their reader.
Rule 2: a file that is not being read when the next part is asked for is skipped; one that is being read delays the parts
    after it.
Rule 3: a malformed form raises a `RequestError`, the same one in the task that reads parts and the one that reads a file.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import unquote_to_bytes

import trio

from trioflow._core.adapters import Once, forward
from trioflow._core.channel import SendChannel
from trioflow._core.checks import check_limit
from trioflow._core.engine import Stage
from trioflow._core.errors import HangUp
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
_PIECE: Final = 4096  # bytes of an urlencoded form, decoded between two yields: 0.3 ms where each is percent-encoded
_COST: Final = 64  # of each name and value besides, in bytes
_EVENTS: Final = 32  # of a form in parts, between two yields: a tiny part costs 50 µs


class Part:
    """One field or one file of a form.

    Attributes:
        name: The field's name; `""` if that is empty.
        filename: What the client calls the file, None for a field. Never use it as a path to write to.
        headers: Its header fields, such as `content-type`.
        body: Its bytes. A field's can be read any number of times; a file's once, and only until the next part is asked
            for.
    """

    __slots__ = ("_codec", "_value", "body", "filename", "headers", "name")

    def __init__(self, head: PartHead, value: bytes | None, body: Readable[bytes], codec: str = "utf_8") -> None:
        self.name, self.filename, self.headers = head
        self.body = body
        self._value = value
        self._codec = codec

    @property
    def value(self) -> str:
        """The text of a field, decoded from the charset of its `Content-Type`, or else that of the form.

        Raises:
            RequestError: it is not in that charset, or the charset is unknown. Its text names the field and the byte.
            TypeError: this is a file.
        """
        if self._value is None:
            raise TypeError(f"the part {self.name!r} is a file: read its body")
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
    """Read a request's body as a form, part by part: multipart/form-data, or application/x-www-form-urlencoded.

        async with http.form(request).open() as parts:
            async for part in parts:
                if part.filename is None:
                    print(part.name, part.value)
                else:
                    await part.body.pipe(tf.write_file(directory / str(uuid.uuid4())))

    Emits when: a whole field has come, or the head of a file.
    Waits when: its reader does; while a file is being read; or until a file is read or the next part is asked for.
    Ends when: the form does. A file that is not being read when the next part is asked for is skipped: begin to read it
        in the task that receives the parts.
    On cancel: the rest is lost.
    Holds: fields of `field_size` together, 64 KiB of a file, and twice what `request.body` holds; all of an urlencoded
        form.

    Args:
        request: The request whose body is read, which can be done once (R4).
        count: The most parts.
        header_size: The most bytes in the header fields of one part.
        field_size: The most bytes in all fields together, without files; they are held in memory.
        file_size: The most bytes in one file.
        size: The most bytes in all; `Limits.body_size` applies as well.
        encoding: The charset of names and fields, unless the form names another one: by the charset of a part or of the
            whole, or by a field `_charset_` before them, which browsers fill in. A browser uses that of the page.

    Raises:
        RequestError: at once, if the request has no form (415, or 400); when it runs, if the form is malformed or cut
            off (400), or exceeds a limit (413). Let it propagate: the server answers it.
        TypeError, ValueError: a limit is neither an int of 1 or more, nor `math.inf`; or no form is sent in `encoding`.
    """
    if not isinstance(request, Request):
        raise TypeError(f"form wants a Request, not {request!r}")
    for name, limit in (("count", count), ("header_size", header_size), ("field_size", field_size),
                        ("file_size", file_size), ("size", size)):  # fmt: skip
        check_limit(name, limit)
    if not isinstance(encoding, str):
        raise TypeError(f"form: encoding must be a str, got {encoding!r}")
    if (codec := codec_of(encoding)) is None:
        raise ValueError(f"form: encoding must be a charset such as 'utf-8' or 'windows-1252', got {encoding!r}")
    if not (given := request.headers.get("content-type")):
        raise RequestError(415, "a form is wanted, and the request has no content type")
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
        raise RequestError(415, f"a form is wanted, not {kind}")
    return Readable._of(Stage(label("form"), function=Once(run, f"the form of this {request.method} request")))


class _Meter:
    """Counts how much of a form has come.

    Args:
        most: How many bytes may come.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._size = 0

    def passed(self, chunk: bytes) -> bytes:
        self._size += len(chunk)
        if self._size > self._most:
            raise RequestError(413, f"the form is larger than {self._most} bytes")
        return chunk


class _Pairs:
    """An urlencoded form, which is small and has only fields."""

    def __init__(self, request: Request, count: float, size: float, codec: str) -> None:
        self._request = request
        self._codec = codec
        self._count = count
        self._size = size
        self._work = 0  # since the last yield, in bytes

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
        """Return a name or a value as it was before it was percent-encoded; let other tasks run meanwhile."""
        pieces: list[bytes] = []
        start = 0
        while start < len(data):
            stop = start + _PIECE
            if stop < len(data) and (cut := data.find(b"%", stop - 2, stop)) >= 0:
                stop = cut  # an escape is not cut
            pieces.append(unquote_to_bytes(data[start:stop].replace(b"+", b" ")))
            self._work += min(stop, len(data)) - start + _COST
            start = stop
            if self._work >= _PIECE:
                self._work = 0
                await trio.lowlevel.checkpoint()
        return b"".join(pieces)


class _Parts:
    """A form in parts."""

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
        self._fields = 0  # bytes in all of them
        self._file: _File | None = None  # the last one
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
    """The body of a file on its way from the form to its reader, if it has one."""

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
            except HangUp as exc:
                if not self._send._has_raised(exc):  # pragma: no cover - nothing else raises one here
                    raise
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
            raise trio.ClosedResourceError(f"the file {self._name!r} was skipped: the next part was asked for first")
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
    """Return Python's name for the charset of what follows a field."""
    return named_by_client(field.value) if field.name == "_charset_" and field._value else field._codec
