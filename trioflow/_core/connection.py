"""A two-way byte stream shared by its two directions, opened when it is first used.

Rule 1: each direction can run once (R4). If opening fails it has not run, and may be tried again.
Rule 2: it is closed when both directions have ended, or by `aclose`. A direction that cannot run any longer, because its
    Readable or Writable was dropped, counts as ended.
Rule 3: a write that fails or is cancelled closes both directions at once, so that the peer can tell (R13), and so does a
    read that fails. A reader that needs no more ends only its own direction.
Rule 4: closing waits at most `CLOSING` seconds for the peer (R16).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Final

import trio

from trioflow._core.adapters import RECEIVE, Enough, Tally, cut, receive_into, send_from
from trioflow._core.block import block
from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.crew import Crew
from trioflow._core.errors import HangUp, failure_in

CLOSING: Final = 5.0  # seconds; a TLS peer may be slow to send its close_notify
READ: Final = "readable"
WRITE: Final = "writable"


class Connection:
    """A two-way byte stream, and which of its directions have run.

    Args:
        connect: Opens the stream, or is an open one.
        name: Returns its name for errors.
        is_lent: Others may use the stream too, so a direction that was dropped has not ended.
        lives_by_output: It ends with its output, as a process does. A reader that needs no more ends it; a writer whose
            output cannot be read waits for its end.
        beside: An async function to run beside any use of the stream.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[trio.abc.Stream]] | trio.abc.Stream,
        name: Callable[[], str],
        *,
        is_lent: bool = False,
        lives_by_output: bool = False,
        beside: Callable[[Any], Awaitable[None]] | None = None,
    ) -> None:
        self._connect = connect
        self._name = name
        self._is_lent = is_lent
        self._lives_by_output = lives_by_output
        self._beside = beside
        self._stream = connect if isinstance(connect, trio.abc.Stream) else None
        self._opening = trio.Lock()
        self._begun: set[str] = set()
        self._over: set[str] = set()
        self._written = False  # whether everything was written, and the end too
        self._closed = False
        self._cut_off = trio.Event()
        self._failure: BaseException | None = None  # of the direction that failed first
        self._has_enough = False  # whether the reader has closed it because it needs no more

    async def read(self, output: SendChannel[bytes]) -> None:
        """Send everything that arrives to `output`, as a source."""
        async with self._using(READ) as stream:
            if self._lives_by_output and self._is_lost(WRITE) and isinstance(stream, trio.abc.HalfCloseableStream):
                await stream.send_eof()
            await self._run(stream, lambda: receive_into(stream, output))

    async def write(self, source: ReceiveChannel[bytes]) -> int:
        """Write all of `source` and its end, as a sink; return the number of bytes."""
        tally = Tally()

        async def send() -> None:
            await self._send(source, stream, tally)

        try:
            async with self._using(WRITE) as stream:
                if not self._is_lost(READ):
                    await self._run(stream, send)
                elif self._lives_by_output:
                    await self._run(stream, lambda: _drain(stream), send)
                else:
                    await self._run(stream, send, lambda: _drain(stream))
        except Enough:
            pass  # the reader needed no more before this began
        return tally.bytes

    async def exchange(self, source: ReceiveChannel[bytes], output: SendChannel[bytes]) -> None:
        """Write `source` and read into `output` at the same time, as a transform. It ends when the reading does."""

        async def send() -> None:
            await self._send(source, stream, Tally())
            source.close()  # a peer that needs no more stops everything upstream (R9)

        async with self._using(READ, WRITE) as stream:
            await self._run(stream, lambda: receive_into(stream, output), send)

    @block
    async def open(self) -> AsyncGenerator[trio.abc.HalfCloseableStream, None]:
        """Yield the stream itself, and close it at the end of the block."""
        async with self._using(READ, WRITE) as stream:
            assert isinstance(stream, trio.abc.HalfCloseableStream)
            async with Crew() as crew:
                if self._beside is not None:
                    crew.start(self._beside, stream)
                yield stream
                crew.cancel()

    async def aclose(self) -> None:
        """Close both directions. Harmless when repeated."""
        self._closed = True
        if self._stream is None:
            await trio.lowlevel.checkpoint()
        elif WRITE in self._begun and WRITE not in self._over:
            await cut(self._stream)  # so that the peer does not take partial data for complete (R13)
        else:
            with trio.move_on_after(CLOSING):
                await self._stream.aclose()

    async def skip(self, *directions: str) -> None:
        """End those of `directions` that have not begun, if the stream is open: a run got them, and ended without using them."""
        unused = {*directions} - self._begun
        if self._stream is not None and unused:
            self._begun |= unused
            self._over |= unused
            await self._reader_had_enough()

    def mark_lost(self, direction: str) -> None:
        """Note that this direction was dropped and can no longer begin."""
        if not self._is_lent and direction not in self._begun:
            self._over.add(direction)

    def _is_lost(self, direction: str) -> bool:
        return direction in self._over and direction not in self._begun

    @block
    async def _using(self, *directions: str) -> AsyncGenerator[trio.abc.Stream, None]:
        """Open the stream, and run `directions` of it in the block.

        How they end                          What follows
        opening failed                        they may be tried again (Rule 1)
        ended normally                        the stream is closed if both directions have ended
        broken, as the reader needs no more   nothing: there is no use for what is written
        broken by the other direction         that one's failure is raised, the same object
        the reader needs no more              its direction ends; for a process, or if it is the last one, the stream too
        failed or cancelled                   both directions are cut off (Rule 3)
        """
        for direction in directions:
            if direction in self._begun:
                raise trio.ClosedResourceError(
                    f"the {direction} of {self._name()} can only run once, and has already run"
                )
        self._begun.update(directions)
        try:
            stream = await self._open()
        except Exception:
            self._begun.difference_update(directions)
            raise
        except BaseException as exc:
            await self._ended_by(exc, directions)
            raise
        try:
            yield stream
        except BaseException as exc:
            if await self._ended_by(exc, directions):
                raise
        else:
            self._over.update(directions)
            if len(self._over) == 2:
                await self.aclose()

    async def _ended_by(self, exc: BaseException, directions: tuple[str, ...]) -> bool:
        """React to `directions` ending with `exc`. Return whether to raise that."""
        self._over.update(directions)
        is_break = isinstance(exc, (trio.BrokenResourceError, trio.ClosedResourceError)) and not isinstance(exc, HangUp)
        failure = None if isinstance(exc, HangUp) else failure_in(exc)
        if is_break and self._has_enough:
            return False
        if is_break and self._failure is not None:
            await self._cut_off.wait()  # the other direction raises it first
            raise self._failure  # the same object, so that a run counts it as one failure
        if directions == (READ,) and failure is None:
            await self._reader_had_enough()
        else:
            await self._cut(failure)
        return True

    async def _reader_had_enough(self) -> None:
        if self._lives_by_output or len(self._over) == 2:
            self._has_enough = True
            await self._cut(None)

    async def _open(self) -> trio.abc.Stream:
        async with self._opening:
            if self._stream is None and not self._closed:
                assert not isinstance(self._connect, trio.abc.Stream)
                self._stream = await self._connect()
        if not self._closed:
            assert self._stream is not None
            return self._stream
        if self._stream is not None:
            await cut(self._stream, reset=False)  # `aclose` may have been called while it was being opened
        await trio.lowlevel.checkpoint_if_cancelled()  # both directions may have been cancelled meanwhile
        if self._failure is not None:
            raise trio.BrokenResourceError(
                f"{self._name()} was cut off after its other direction failed"
            ) from self._failure
        if self._has_enough:
            raise Enough(f"{self._name()} was closed because its reader needed no more")
        raise trio.ClosedResourceError(f"{self._name()} is closed")

    async def _cut(self, failure: BaseException | None) -> None:
        """Close the stream at once, and keep `failure` for the other direction to raise."""
        if not (self._closed or self._has_enough):
            self._failure = failure or trio.BrokenResourceError(
                f"{self._name()} was cut off because its writer was cancelled"
            )
        self._closed = True
        try:
            if self._stream is not None:
                await cut(self._stream, reset=WRITE in self._begun and not self._written)
        finally:
            self._cut_off.set()

    async def _send(self, source: ReceiveChannel[bytes], stream: trio.abc.Stream, tally: Tally) -> None:
        await send_from(source, stream, tally)
        self._written = True

    async def _run(
        self, stream: trio.abc.Stream, main: Callable[[], Awaitable[None]], *others: Callable[[], Awaitable[None]]
    ) -> None:
        if not others and self._beside is None:
            await main()
            return
        try:
            async with Crew() as crew:
                if self._beside is not None:
                    crew.start(self._beside, stream)
                for other in others:
                    crew.start(other)
                await main()
                crew.cancel()
        except BaseExceptionGroup as group:
            # If a stream breaks, both its directions fail, but that is a single failure.
            if not all(isinstance(exc, trio.BrokenResourceError) for exc in group.exceptions):
                raise
            broken = [exc for exc in group.exceptions if not isinstance(exc, HangUp)]
            first = (broken or group.exceptions)[0]
            raise first from first.__cause__  # the system's error, not the group


class Direction:
    """One direction as a stage function. When the last reference to it is dropped, the direction can no longer run."""

    __slots__ = ("_connection", "_name", "_run")

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._name = name
        self._run: Callable[[Any], Awaitable[Any]] = connection.read if name == READ else connection.write

    def __call__(self, end: Any) -> Awaitable[Any]:
        return self._run(end)

    async def release(self) -> None:
        """End this direction if it has not begun: the run that got it has ended without using it."""
        await self._connection.skip(self._name)

    def __del__(self) -> None:
        self._connection.mark_lost(self._name)


async def _drain(stream: trio.abc.ReceiveStream) -> None:
    while await stream.receive_some(RECEIVE):
        pass
