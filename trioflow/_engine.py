"""The engine: stages as tasks in one nursery, a bounded channel between every two.

Rule 1: a run returns only when every task has ended (R2); its value is its sink's (R3).
Rule 2: who closes the last reading end of a channel before its end has hung up: all upstream of it is cancelled (R9).
Rule 3: who raises ends all: every other stage is cancelled and every channel emptied, at once, before anyone else
    runs, so that no item, end or flush follows a failure (R12).
Rule 4: the reader or writer outside (`open`) is not a stage: nobody cancels it. It is told at its next call, and
    if it makes none, when it leaves.
Rule 5: a stage may enclose all before it: then those are a run of their own, inside its task, and it is told how that
    ended. So a failure can be dealt with where it would end all.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar

import trio

from trioflow._buffer import Buffer, check_capacity
from trioflow._channel import ReceiveChannel, SendChannel
from trioflow._errors import HangUp, cancelled_in, combined, failure_in
from trioflow._sync import Fused, Part

R = TypeVar("R")

StageFunction = Callable[..., Awaitable[Any]]
Take: TypeAlias = "Callable[[ReceiveChannel[Any]], Awaitable[object]]"
Attempt: TypeAlias = "Callable[[Take], Awaitable[BaseException | None]]"


class Stage(NamedTuple):
    """One stage as a value: an async function over its channels, or a factory of a synchronous part.

    The function of one that `encloses` all before it gets an `Attempt` at them in place of the channel they feed.
    """

    label: Callable[[], str]
    function: StageFunction | None = None
    factory: Callable[[], Part] | None = None
    encloses: bool = False


class Watched(NamedTuple):
    """One task of a run, for who watches it: its stages' names, and the channels before and behind it."""

    labels: Sequence[Callable[[], str]]
    fused: Fused | None
    source: Buffer[Any] | None
    output: Buffer[Any] | None


Watch: TypeAlias = "Callable[[Sequence[Watched]], AbstractContextManager[object]]"


class _Task:
    """One task of a run: one stage, or adjacent synchronous stages fused."""

    def __init__(self, first: int, stages: Sequence[Stage], capacity: float) -> None:
        self._first = first
        self._labels = [stage.label for stage in stages]
        factories = [stage.factory for stage in stages if stage.factory is not None]
        self._fused = Fused(factories, capacity) if factories else None
        self._function = stages[0].function
        self.scope = trio.CancelScope()
        self.source: ReceiveChannel[Any] | None = None
        self.output: SendChannel[Any] | None = None

    @property
    def at(self) -> int:
        """The index of the stage at work."""
        return self._first if self._fused is None else self._first + self._fused.at

    def watched(self) -> Watched:
        """Give what may be watched while this runs."""
        if self._fused is not None:
            self._fused.is_watched = True
        source = None if self.source is None else self.source._buffer
        output = None if self.output is None else self.output._buffer
        return Watched(self._labels, self._fused, source, output)

    async def run(self) -> Any:
        if self._fused is not None:
            return await self._fused.run(self.source, self.output)
        assert self._function is not None
        if self.source is not None and self.output is not None:
            self.source.pair(self.output)
        return await self._function(*(end for end in (self.source, self.output) if end is not None))


class _Run:
    """One run of a list of stages: its tasks, the buffers between them, and who has failed."""

    def __init__(
        self,
        stages: Sequence[Stage],
        capacity: float,
        *,
        head: bool = False,
        tail: bool = False,
        whole: Sequence[Stage] | None = None,
    ) -> None:
        """Join `stages`, the first of the `whole`; with `head` or `tail` there is a channel to the outside at that end."""
        self._stages = stages if whole is None else whole
        self._is_attempt = whole is not None
        self.tasks = list(_tasks_of(stages, capacity, self._stages))
        self.buffers: list[Buffer[Any]] = []
        self.failures: list[BaseException] = []
        self.on_failure: Callable[[], None] | None = None
        self.outside: Buffer[Any] | None = None
        self.send: SendChannel[Any] | None = None
        self.receive: ReceiveChannel[Any] | None = None
        if head:
            self.send, self.tasks[0].source = self._channel(capacity, 0)
            self.outside = self.buffers[-1]
        for i in range(1, len(self.tasks)):
            self.tasks[i - 1].output, self.tasks[i].source = self._channel(capacity, i)
        if tail:
            self.tasks[-1].output, self.receive = self._channel(capacity, len(self.tasks))
            self.outside = self.buffers[-1]

    def _channel(self, capacity: float, upstream: int) -> tuple[SendChannel[Any], ReceiveChannel[Any]]:
        """Make a channel behind the first `upstream` tasks, which end when its last reader leaves."""
        buffer: Buffer[Any] = Buffer(capacity, "wait")
        self.buffers.append(buffer)
        if upstream:
            buffer.on_hang_up = lambda: self.cancel(self.tasks[:upstream])
        return SendChannel(buffer), ReceiveChannel(buffer)

    def cancel(self, tasks: Sequence[_Task]) -> None:
        for task in tasks:
            task.scope.cancel()

    def stop(self, failure: BaseException | None = None) -> None:
        """End all at once: cancel every task and empty every channel; the outside is told `failure` itself."""
        self.cancel(self.tasks)
        for buffer in self.buffers:
            if buffer is self.outside and failure is not None:
                buffer.abort(failure, behind=self._is_attempt)
            else:
                buffer.abort(HangUp(self, "another stage of this run has failed"))

    async def play(self, task: _Task) -> Any:
        """Run one task; record a failure instead of raising it, so that a single one stays plain (R11)."""
        try:
            with task.scope:
                return await task.run()
        except BaseException as exc:  # noqa: BLE001 - nothing is swallowed: it is settled below
            failure = self.failure_in(exc, None if task.output is None else task.output._buffer)
            if failure is not None:
                failure.add_note(self._place(task.at))
                self.failures.append(failure)
                self.stop(failure)
                if self.on_failure is not None:
                    self.on_failure()
            elif cancelled := cancelled_in(exc):
                self.stop()  # nobody may take what was cut off for the end
                raise cancelled from None
        finally:
            if task.output is not None:
                if task.scope.cancelled_caught:
                    task.output._buffer.abort(HangUp(self, "the sender was cancelled"))
                task.output.close()
            if task.source is not None:
                task.source.close()

    def failure_in(self, exc: BaseException, output: Buffer[Any] | None = None) -> BaseException | None:
        """Give what is a new failure in `exc`, which someone has raised who sends to `output`.

        Its reader may hang up on it. That the sender it reads from has failed is no hang-up, unless that is outside.
        """
        if any(exc is known for known in self.failures):
            return None
        return failure_in(exc, self, output, None if self.send is None else self.outside)

    def has_failed_by(self, exc: BaseException) -> bool:
        """Tell whether `exc` is what stages have failed by, and nothing else."""
        if any(exc is known for known in self.failures):
            return True
        return isinstance(exc, BaseExceptionGroup) and all(map(self.has_failed_by, exc.exceptions))

    def _place(self, index: int) -> str:
        return _place(self._stages, index)

    def settle(self, body: BaseException | None, nursery: BaseException | None) -> None:
        """Raise what is left to raise, after all tasks have ended: failures, else a cancellation.

        `body` is what the block of `open` has raised. It has dealt with a failure that it was told, or raises it still.
        """
        told = self.outside.failure if self.outside is not None and self.outside.failure_seen else None
        left = [failure for failure in self.failures if failure is not told or failure is body]
        caught = [body] if body is not None else []
        if nursery is not None:  # it is ours, and so is its group
            caught += nursery.exceptions if isinstance(nursery, BaseExceptionGroup) else [nursery]
        failures = [failure for exc in caught if (failure := self.failure_in(exc)) is not None] + left
        if failures:
            failure = combined(failures)
            context = failure.__context__
            try:
                raise failure
            finally:
                failure.__context__ = context  # not what the block happens to be handling: that may be a Cancelled
        for exc in caught:
            if cancelled := cancelled_in(exc):
                raise cancelled


def _place(stages: Sequence[Stage], index: int) -> str:
    return f"in stage {index + 1} of {len(stages)}: {stages[index].label()}"


def _tasks_of(stages: Sequence[Stage], capacity: float, whole: Sequence[Stage]) -> list[_Task]:
    """Group adjacent synchronous stages; every other stage is a task of its own, with all that it encloses."""
    tasks: list[_Task] = []
    start = 0
    for i in reversed(range(len(stages))):
        if stages[i].encloses:
            tasks.append(_Task(i, [_enclosing(stages, i, capacity, whole)], capacity))
            start = i + 1
            break
    for i in range(start + 1, len(stages) + 1):
        if i == len(stages) or stages[i].factory is None or stages[i - 1].factory is None:
            tasks.append(_Task(start, stages[start:i], capacity))
            start = i
    return tasks


def _enclosing(stages: Sequence[Stage], index: int, capacity: float, whole: Sequence[Stage]) -> Stage:
    """Give the stage at `index`, with all before it inside."""
    function = stages[index].function
    assert function is not None

    async def run(*ends: Any) -> None:
        *sources, output = ends
        source = sources[0] if sources else None
        await function(partial(attempt, stages[:index], capacity, whole=whole, source=source), output)

    return stages[index]._replace(function=run)


async def run_watched(stages: Sequence[Stage], capacity: float, watch: Watch) -> Any:
    """Run stages inside what `watch` gives for their tasks."""
    this = _Run(stages, capacity)
    with watch([task.watched() for task in this.tasks]):
        return await _finish(this)


async def run(stages: Sequence[Stage], capacity: float) -> Any:
    """Run stages from source to sink and give the sink's value."""
    return await _finish(_Run(stages, capacity))


async def _finish(this: _Run) -> Any:
    caught: BaseException | None = None
    result: Any = None
    try:
        if len(this.tasks) == 1:
            result = await this.play(this.tasks[0])
        else:
            async with trio.open_nursery() as nursery:
                for task in this.tasks[:-1]:
                    nursery.start_soon(this.play, task)
                result = await this.play(this.tasks[-1])
    except BaseException as exc:  # noqa: BLE001 - nothing is swallowed: it is settled below
        caught = exc
    if caught is not None or this.failures:
        this.settle(None, caught)
    return result


async def run_directly(
    stages: Sequence[Stage],
    open_source: Callable[[], AbstractAsyncContextManager[Any]],
    take: Callable[[Any], Awaitable[Any]],
    capacity: float,
) -> Any:
    """Run a source and a sink as the sink alone, which takes what the source opens for it; None: run as usual."""
    at = 0
    try:
        async with open_source() as opened:
            if opened is not None:
                at = len(stages) - 1
                return await take(opened)
    except BaseException as exc:
        failure = failure_in(exc)
        if failure is None:
            raise
        failure.add_note(_place(stages, at))
        if failure is exc:
            raise
        raise failure from None
    return await run(stages, capacity)


@asynccontextmanager
async def open_readable(
    stages: Sequence[Stage], capacity: float, on_failure: Callable[[], None] | None = None
) -> AsyncGenerator[ReceiveChannel[Any], None]:
    """Run stages that lack a sink beside the block; leaving it ends them.

    A block that may be asleep elsewhere, as it reads several at a time, has `on_failure` called at once.
    """
    this = _Run(stages, check_capacity(capacity), tail=True)
    this.on_failure = on_failure
    async with _received(this) as receive:
        yield receive


async def attempt(
    stages: Sequence[Stage],
    capacity: float,
    take: Take,
    *,
    whole: Sequence[Stage] | None = None,
    source: ReceiveChannel[Any] | None = None,
) -> BaseException | None:
    """Run stages that lack a sink beside `take`, and give their failure, if any, instead of raising it.

    It comes when all of them have ended, and behind what the last one had sent. What `take` raises is raised, and so is
    what no stage has raised. `whole` is the chain that they are the first stages of, `source` what they read from.
    """
    if not stages:
        assert source is not None
        await take(source)
        return None
    this = _Run(stages, capacity, tail=True, whole=stages if whole is None else whole)
    this.tasks[0].source = source
    try:
        async with _received(this) as receive:
            await take(receive)
    except BaseException as exc:
        if this.has_failed_by(exc):
            return exc
        raise
    return None


@asynccontextmanager
async def _received(this: _Run) -> AsyncGenerator[ReceiveChannel[Any], None]:
    receive = this.receive
    assert receive is not None

    def leave(body: BaseException | None) -> None:
        if body is not None:
            this.stop()  # what writes beside the stages shall not take it for a reader that has enough (R13)
        elif not this.buffers[-1].ended:
            this.cancel(this.tasks)
        receive.close()

    async with _beside(this, leave):
        yield receive


@asynccontextmanager
async def open_writable(stages: Sequence[Stage], capacity: float) -> AsyncGenerator[SendChannel[Any], None]:
    """Run stages that lack a source beside the block; leaving it ends their input, failing in it cuts them off (R13)."""
    this = _Run(stages, check_capacity(capacity), head=True)
    send = this.send
    assert send is not None

    def leave(body: BaseException | None) -> None:
        if body is not None and (this.failure_in(body) is not None or cancelled_in(body) is not None):
            this.stop()
        send.close()

    async with _beside(this, leave):
        yield send


@asynccontextmanager
async def _beside(this: _Run, leave: Callable[[BaseException | None], None]) -> AsyncGenerator[None, None]:
    """Run all tasks beside the block; `leave` is told what the block has raised, when it has ended."""
    body: BaseException | None = None
    caught: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            for task in this.tasks:
                nursery.start_soon(this.play, task)
            try:
                yield
            except BaseException as exc:  # noqa: BLE001 - nothing is swallowed: it is settled below
                body = exc
            leave(body)
    except BaseException as exc:  # noqa: BLE001 - nothing is swallowed: it is settled below
        caught = exc
    this.settle(body, caught)


async def together(main: Callable[[], Awaitable[R]], *others: Callable[[], Awaitable[object]]) -> R:
    """Run functions side by side inside a stage and give `main`'s value; its end cancels the others.

    The first failure cancels all; one failure is raised plain, two or more as a group.
    """
    failures: list[BaseException] = []
    result: list[R] = []

    async def lead() -> None:
        result.append(await main())

    async def guarded(function: Callable[[], Awaitable[object]], scope: trio.CancelScope) -> None:
        try:
            await function()
        except BaseException as exc:
            failure = failure_in(exc)
            if failure is None:
                raise
            failures.append(failure)
            scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            for other in others:
                nursery.start_soon(guarded, other, nursery.cancel_scope)
            await guarded(lead, nursery.cancel_scope)
            nursery.cancel_scope.cancel()
    except BaseException:
        if not failures:
            raise  # a failure is not lost to a cancellation (R17)
    if failures:
        raise combined(failures)
    return result[0]
