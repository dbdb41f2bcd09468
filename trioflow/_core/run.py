"""One run: its tasks, the channels between them, and which of them are cancelled or have failed.

Rule 1: when the last reader of a channel closes it before its end, everything upstream is cancelled (R9).
Rule 2: when a stage raises, all other stages are cancelled and all channels emptied before another task runs, so no item,
    end or flush follows a failure (R12).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Final, NamedTuple, TypeAlias

import trio

from trioflow._core.buffer import Buffer
from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.crew import Crew
from trioflow._core.errors import HangUp, cancelled_in, failure_in, note, shorten_traceback
from trioflow._core.fused import Fused, Part
from trioflow._core.moving import forward_from
from trioflow._core.observing import Watched
from trioflow._core.shortcuts import NOTHING, Offer, Takes

StageFunction = Callable[..., Awaitable[Any]]
# Python's message when a function that expects str gets bytes.
_OF_STR: Final = re.compile("bytes-like object is required, not 'str'|'str' objects doesn't apply to a 'bytes'")
# Python's message for `for` over a channel. An `__iter__` that explains this would make other libraries take it for an
# iterable.
_OF_CHANNEL: Final = re.compile("'(ReceiveChannel|_StageReader)' object is not iterable")


# A wrapper around a stage's function for one item. A plain function stays plain, an async one async.
Wrap: TypeAlias = Callable[[Callable[[Any], Any]], Callable[[Any], Any]]


class Stage(NamedTuple):
    """One stage as a value: an async function over its channels, or a factory of a synchronous part.

    Attributes:
        label: Renders its name, for notes and reprs.
        encloses: Its function gets an `Attempt` at all stages before it, instead of the channel from them.
        rewrapped: Set if the stage calls a function for each item and keeps nothing between items. Returns the same stage
            with that function wrapped by a `Wrap`.
        passes_on: It ignores the items' values, and passes each on once and without delay, as it is or in a list.
        channel: Returns the channel in which a source's items arrive, instead of a `function` that sends them. The run
            reads that channel itself, which saves a task and a channel, and closes it. If it is aborted, the source has
            failed.
        drops: It drops items that downstream is too slow for. All channels after it then have capacity 1; in larger ones
            its fresh items would grow old (R6).
        offer: What a source lets a sink take whole, instead of its items.
        takes: What a sink can take whole, by kind.
        follow: Lets a source change the stages after it. Called with all stages of the chain, itself first, and whether
            the chain is complete. Returns the stages to run, or raises `TypeError`.
        release: Closes the stage's live ends if it will not run.
    """

    label: Callable[[], str]
    function: StageFunction | None = None
    factory: Callable[[], Part] | None = None
    encloses: bool = False
    rewrapped: Callable[[Wrap], Stage] | None = None
    passes_on: bool = False
    channel: Callable[[], ReceiveChannel[Any]] | None = None
    drops: bool = False
    offer: Offer | None = None
    takes: Takes = NOTHING
    follow: Callable[[Sequence[Stage], bool], Sequence[Stage]] | None = None
    release: Callable[[], Awaitable[None]] | None = None


class Task:
    """One task of a run: one stage, or several adjacent synchronous stages."""

    def __init__(self, first: int, stage: Stage, capacity: float) -> None:
        self._first = first
        self._fused = None if stage.factory is None else Fused(stage.factory, capacity)
        self._function: StageFunction | None = stage.function
        if stage.channel is not None:
            self._function = partial(forward_from, stage.channel)
        self.capacity = 1 if stage.drops else capacity  # of the channel after it
        # None for a task that is only cancelled together with all others: a scope costs 4 µs.
        self.scope: trio.CancelScope | None = None
        self.source: ReceiveChannel[Any] | None = None
        self.output: SendChannel[Any] | None = None

    def add(self, factory: Callable[[], Part]) -> bool:
        """Add a synchronous stage, if this task can share it."""
        if self._fused is None:
            return False
        self._fused.factories.append(factory)
        return True

    @property
    def at(self) -> int:
        """The index of the stage that is working."""
        return self._first if self._fused is None else self._first + self._fused.at

    def watched(self, stages: Sequence[Stage]) -> Watched:
        """Return what monitors see of this task, which runs some of `stages`."""
        count = 1
        if self._fused is not None:
            self._fused.is_watched = True
            count = len(self._fused.factories)
        labels = [stage.label for stage in stages[self._first : self._first + count]]
        source, output = (None if end is None else end._buffer for end in (self.source, self.output))
        return Watched(labels, self._fused, source, output)

    def run(self) -> Awaitable[Any]:
        source, output = self.source, self.output
        if self._fused is not None:
            return self._fused.run(source, output)
        assert self._function is not None
        if source is None:
            return self._function(output)
        if output is None:
            return self._function(source)
        source._pair(output)
        return self._function(source, output)


class Run(Crew):
    """One run of a list of stages: its tasks, the buffers between them, and the failures."""

    members: ClassVar[str] = "stages"

    def __init__(
        self,
        stages: Sequence[Stage],
        tasks: Sequence[Task],
        capacity: float,
        *,
        head: bool,
        tail: bool,
        is_attempt: bool,
        given: ReceiveChannel[Any] | None = None,
    ) -> None:
        """Connect `tasks`, which run the first of `stages`. `head` and `tail` add a channel to the outside at that end.

        `given` is the channel of a source that has one and no task (see `Stage.channel`).
        """
        super().__init__()
        self._stages = stages
        self._is_attempt = is_attempt
        self.tasks = tasks
        self._unstarted = iter(tasks)
        self.result: Any = None  # of the sink
        self._is_stopped = False
        self._mark = object()  # in hang-ups, which may outlive this run, and would keep it
        self.buffers: list[Buffer[Any]] = []
        self._scopes: list[trio.CancelScope] = []
        self.on_failure: Callable[[], None] | None = None
        self._given = given
        self._lost: BaseException | None = None  # why `given` was aborted; recorded once a task has ended for it
        self.outside: Buffer[Any] | None = None
        self.send: SendChannel[Any] | None = None
        self.receive: ReceiveChannel[Any] | None = None
        source = given
        if head:
            self.send, source = self._channel(capacity)
            self.outside = self.buffers[-1]
            self.outside.tell_abort(source, self._stop)  # else the stages after the first would see a regular end (R13)
        for i, task in enumerate(tasks, 1):
            task.source = source
            has_output = i < len(tasks) or tail
            if has_output or head or given is not None:
                task.scope = trio.CancelScope()
                self._scopes.append(task.scope)
            if has_output:
                task.output, source = self._channel(task.capacity)
                self.buffers[-1].run_capacity = capacity
                self.buffers[-1].on_hang_up = partial(_cancel, self._scopes, i)
        if tail:
            self.receive = source
            self.outside = self.buffers[-1]
        if given is not None:
            given._buffer.tell_abort(given, self._source_failed)

    def _channel(self, capacity: float) -> tuple[SendChannel[Any], ReceiveChannel[Any]]:
        buffer: Buffer[Any] = Buffer(capacity, "wait")
        self.buffers.append(buffer)
        return SendChannel(buffer), ReceiveChannel(buffer)

    def begin(self, count: int) -> None:
        """Start so many tasks in the nursery."""
        for _ in range(count):
            self._nursery.start_soon(partial(self.play, is_beside=True))

    def watched(self) -> list[Watched]:
        """Return what monitors see of this run."""
        tasks = [task.watched(self._stages) for task in self.tasks]
        if self._given is not None:
            tasks.insert(0, Watched([self._stages[0].label], None, None, self._given._buffer))
        return tasks

    def _stop(self, failure: BaseException | None = None) -> None:
        """Cancel every task and empty every channel, at once. The block outside gets `failure` itself."""
        if self._is_stopped:  # as each of the cancelled tasks asks for it
            return
        self._is_stopped = True
        if len(self._scopes) == len(self.tasks):
            _cancel(self._scopes)
        elif len(self.tasks) > 1:
            self.cancel()  # one call for all, as there is no block outside
        for buffer in self.buffers:
            if buffer is self.outside and failure is not None:
                buffer.abort(failure, after_items=self._is_attempt)
            else:
                buffer.abort(HangUp(self._mark, "another stage of this run has failed"))
        if self._given is not None and self._given._buffer.receivers == 1:
            self._given._buffer.discard()

    async def play(self, *, is_beside: bool = False) -> None:
        """Run the next task. Record a failure instead of raising it, so that a single one need not be in a group (R11).

        A task beside the block does not raise a cancellation either: for each, Trio would make a group and its text.

        Trio starts tasks forwards or backwards, at random. Started from source to sink, none begins by waiting for its source.
        """
        task = next(self._unstarted)
        try:
            if task.scope is None:  # then it is the sink
                self.result = await task.run()
            else:
                with task.scope:
                    result = await task.run()
                    if task.output is None:
                        self.result = result
            if self._lost is not None:
                self._note_lost()
        except BaseException as exc:  # noqa: BLE001 - recorded or raised below
            failure = self.failure_in(exc, task)
            if failure is not None:
                self._note_lost()
                if failure is not self._lost:
                    self._fail(failure, task.at)
            elif cancelled := cancelled_in(exc):
                self._stop()  # otherwise partial data would pass for complete
                if not is_beside:
                    raise cancelled from None
                self.was_cancelled = True
        finally:
            failure = cancelled = None  # their tracebacks refer to this frame: a reference cycle
            if task.output is not None:
                if task.scope is not None and task.scope.cancelled_caught:
                    task.output._buffer.abort(HangUp(self._mark, "the sender was cancelled"))
                task.output.close()
            if task.source is not None:
                task.source.close()

    def _fail(self, failure: BaseException, at: int) -> None:
        note_stage(failure, self._stages, at, is_nested=self.on_failure is not None)
        shorten_traceback(failure)
        self.failures.append(failure)
        self._stop(failure)
        if self.on_failure is not None:
            self.on_failure()

    def _source_failed(self, failure: BaseException) -> None:
        """Stop, because the source's channel has been aborted, unless its reader has been cancelled before."""
        scope = self.tasks[0].scope
        if scope is not None and not scope.cancel_called:
            self._lost = failure
            self._stop(failure)

    def _note_lost(self) -> None:
        if self._lost is not None and not any(self._lost is known for known in self.failures):
            self._fail(self._lost, 0)

    def block_ended(self, raised: BaseException | None) -> None:
        """End the stages because the block outside has ended, either normally or with the exception `raised`."""
        if self.receive is not None:
            if raised is not None:
                self._stop()  # the reader has failed and not just stopped early: nothing may pass for complete (R13)
            elif not self.buffers[-1].ended:
                _cancel(self._scopes)
            self.receive.close()
        if self.send is not None:
            if raised is not None and (self.failure_in(raised) is not None or cancelled_in(raised) is not None):
                self._stop()
            self.send.close()

    def failure_in(self, exc: BaseException, task: Task | None = None) -> BaseException | None:
        """Return the part of `exc` that is a new failure, if any. `task` raised it, or else the block outside.

        If the reader of what it sends has hung up, that is no failure. If the channel that it reads was aborted by another
        stage, that is a failure. If the writer outside has aborted its channel, that is no failure, unless the block tries to
        send after that: an item would be lost without an error.
        """
        if any(exc is known for known in self.failures):
            return None
        written = None if self.send is None else self.outside
        if task is not None:
            return failure_in(exc, self._mark, written, None if task.output is None else task.output._buffer)
        aborted = None if written is None else written.failure
        is_ours = isinstance(aborted, HangUp) and aborted.channel is self._mark
        return failure_in(exc, self._mark, written, loud=None if is_ours else aborted)

    def has_failed_by(self, exc: BaseException) -> bool:
        """Return whether `exc` consists only of failures of stages."""
        if any(exc is known for known in self.failures):
            return True
        return isinstance(exc, BaseExceptionGroup) and all(map(self.has_failed_by, exc.exceptions))

    def unhandled(self, raised: BaseException | None) -> Sequence[BaseException]:
        """Return the failures that must still be raised. One that the block outside got is left to it, unless it raised it."""
        seen = self.outside.failure if self.outside is not None and self.outside.failure_seen else None
        return [failure for failure in self.failures if failure is not seen or failure is raised]


# Holds scopes instead of their run, which would be a reference cycle: what stages hold is freed when a run ends.
def _cancel(scopes: Sequence[trio.CancelScope], count: int | None = None) -> None:
    """Cancel all tasks, or the first `count` if the last reader of their output has left."""
    for scope in scopes[:count]:
        scope.cancel()


def note_stage(failure: BaseException, stages: Sequence[Stage], index: int, *, is_nested: bool = False) -> None:
    """Note on `failure` which of `stages` it came from (R11). Of several Readables inside a stage, the source says which."""
    place = f"in stage {index + 1} of {len(stages)}: {stages[index].label()}"
    if is_nested and index:
        place += f", from {stages[0].label()}"
    if isinstance(failure.__context__, trio.Cancelled) and not failure.__suppress_context__:
        object.__setattr__(failure, "__suppress_context__", True)  # the note replaces twenty lines of traceback
        place += ", while it was being cancelled"
    note(failure, place)
    if isinstance(failure, TypeError) and _OF_STR.search(str(failure)):
        note(failure, "if the items are bytes, as from read_file, pipe through tf.lines() or tf.decode() first")
    if isinstance(failure, TypeError) and _OF_CHANNEL.search(str(failure)):
        note(failure, "loop over a channel with `async for`, not `for`")
    if isinstance(failure, BaseExceptionGroup) and failure.subgroup(GeneratorExit) is not None:
        note(failure, "do not yield inside a nursery: write an async function that sends to a channel")
