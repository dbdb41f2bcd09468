"""The engine runs stages as tasks in one nursery, with a bounded channel between every two.

Rule 1: a run returns only when every task has ended (R2). Its value is that of its sink (R3).
Rule 2: the reader or writer outside, in an `open` block, is not a stage, so a failure does not cancel it. Its next call
    raises the failure; if it makes no further call, leaving the block does.
Rule 3: a stage may enclose all stages before it. Then they are a run of their own inside its task, and the stage learns
    how that run ended. So it can handle a failure that would otherwise end everything; `retry` and `recover` do.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TypeAlias

from trioflow._core import observing
from trioflow._core.block import block
from trioflow._core.buffer import Buffer
from trioflow._core.channel import ReceiveChannel, SendChannel
from trioflow._core.errors import HangUp, check_trio, combined, failure_in, note, shorten_traceback
from trioflow._core.observing import UNSEEN, NotBegun, Watch, Watched, seen_by
from trioflow._core.run import Run, Task, note_stage
from trioflow._core.run import Stage as Stage
from trioflow._core.run import StageFunction as StageFunction
from trioflow._core.run import Wrap as Wrap
from trioflow._core.shortcuts import Offer

Take: TypeAlias = "Callable[[ReceiveChannel[Any]], Awaitable[object]]"
Attempt: TypeAlias = "Callable[[Take], Awaitable[BaseException | None]]"


def _run_of(
    stages: Sequence[Stage],
    capacity: float,
    *,
    head: bool = False,
    tail: bool = False,
    whole: Sequence[Stage] | None = None,
) -> Run:
    """Return a run of `stages`. In an attempt they are the first of the `whole` chain, and errors count places in that."""
    check_trio()
    if stages and stages[0].follow is not None:
        stages = followed(stages)
        whole = whole and stages
    chain = stages if whole is None else whole
    given = None
    if len(stages) > 1 and stages[0].channel is not None and not any(stage.encloses for stage in stages):
        given = _given(stages[0].channel)
    tasks = _tasks_of(stages, capacity, chain, 0 if given is None else 1)
    return Run(chain, tasks, capacity, head=head, tail=tail, is_attempt=whole is not None, given=given)


def _given(channel: Callable[[], ReceiveChannel[Any]]) -> ReceiveChannel[Any]:
    """Return a source's channel. If it cannot be had, as of a source that has run, return one that raises the reason."""
    try:
        return channel()
    except Exception as exc:  # noqa: BLE001 - raised by the channel
        buffer = Buffer[Any](1, "wait")
        buffer.abort(exc)
        return ReceiveChannel(buffer)


def followed(stages: Sequence[Stage]) -> Sequence[Stage]:
    """Return the stages to run for a chain. Its source may replace them (see `Stage.follow`)."""
    follow = stages[0].follow
    if follow is None:
        return stages
    return [stage if stage.follow is None else stage._replace(follow=None) for stage in follow(stages, True)]


async def release(stages: Sequence[Stage], raised: BaseException | None = None) -> None:
    """Close the live ends (iterators, channels, streams) of those `stages` that have not run.

    If closing fails, raise that, or note it on the failure in `raised` if there is one.
    """
    failures: list[BaseException] = []
    for stage in stages:
        try:
            if stage.release is not None:
                await stage.release()
        except Exception as exc:  # noqa: BLE001 - raised or noted below
            failures.append(exc)
    if raised is not None and failure_in(raised) is not None and not isinstance(raised, HangUp):
        for failure in failures:
            note(raised, f"and then: {failure!r}")
    elif failures:
        raise combined(failures, "live ends") from None


def _tasks_of(stages: Sequence[Stage], capacity: float, whole: Sequence[Stage], start: int) -> list[Task]:
    """Return the tasks for `stages[start:]`: adjacent synchronous stages share one, and each other stage has its own.

    A stage that encloses those before it takes them into its task.
    """
    tasks: list[Task] = []
    after = 1 if start and stages[0].drops else capacity
    for i, stage in enumerate(stages[start:], start):
        if stage.encloses:
            tasks = [Task(i, _enclosing(stages, i, capacity, whole), after)]
        elif stage.factory is None or not tasks or not tasks[-1].add(stage.factory):
            tasks.append(Task(i, stage, after))
        after = tasks[-1].capacity
    return tasks


def _enclosing(stages: Sequence[Stage], index: int, capacity: float, whole: Sequence[Stage]) -> Stage:
    """Return the stage at `index`, with all stages before it inside."""
    function = stages[index].function
    assert function is not None

    async def run(*ends: Any) -> None:
        *sources, output = ends
        source = sources[0] if sources else None
        await function(partial(attempt, stages[:index], capacity, whole=whole, source=source), output)

    return stages[index]._replace(function=run)


async def run(stages: Sequence[Stage], capacity: float, watch: Watch | None = None) -> Any:
    """Run stages from source to sink, and return the sink's value.

    With `watch` every stage runs as usual, so that it sees each. Otherwise a sink may take the source's content whole.
    """
    try:
        offer = stages[0].offer if len(stages) == 2 and watch is None else None
        if offer is not None and (take := stages[1].takes.get(offer.kind)):
            try:
                return await _run_whole(stages, offer, take)
            except NotBegun:
                pass
        this = _run_of(stages, capacity)
        if watch is None and not observing.observers:
            return await _result_of(this)
        with _seen(this, watch):
            return await _result_of(this)
    except BaseException as exc:
        shorten_traceback(exc)
        raise


async def _result_of(this: Run) -> Any:
    """Run all tasks, the first of them in this one, and return what the sink returns."""
    others = len(this.tasks) - 1
    if others:
        async with this:
            this.begin(others)
            await this.play()
    else:
        try:
            await this.play()
        except BaseException as exc:
            this.settle(None, exc)  # not after this block, as a name for it there would make a reference cycle
            raise
        if this.failures:
            this.settle(None, None)
    return this.result


def _seen(this: Run, watch: Watch | None = None) -> AbstractContextManager[object]:
    """Return the `with` block in which observers, and `watch` if given, see this run."""
    watches = observing.observers if watch is None else (*observing.observers, watch)
    return seen_by(watches, this.watched())


def _seen_whole(stages: Sequence[Stage], passed: Buffer[Any]) -> AbstractContextManager[object]:
    source, sink = (stage.label for stage in stages)
    tasks = [Watched([source], None, None, passed), Watched([sink], None, passed, None)]
    return seen_by(observing.observers, tasks)


async def _run_whole(stages: Sequence[Stage], offer: Offer, take: Callable[[Any], Awaitable[Any]]) -> Any:
    """Run a source and a sink without channels: the sink takes the source's content whole.

    Raises:
        NotBegun: this source has nothing to offer whole after all; run it as usual.
    """
    check_trio()
    opened: Any = None
    # No items go through this buffer: it only shows observers the number of bytes.
    passed = Buffer[Any](1, "wait") if observing.observers else None
    with UNSEEN if passed is None else _seen_whole(stages, passed):
        try:
            async with offer.open() as opened:
                if opened is None:
                    raise NotBegun
                result = await take(opened)
        except NotBegun:
            raise
        except BaseException as exc:
            at = 0 if opened is None or getattr(opened, "failure", None) is exc else 1
            if (failure := _noted(exc, stages, at)) is not None:
                raise failure from None
            raise
        if passed is not None:
            passed.count, passed.bytes = 1, result
        return result


def _noted(exc: BaseException, stages: Sequence[Stage], at: int) -> BaseException | None:
    """Note on the failure in `exc` which stage it came from. Return it if it must be raised instead of `exc`."""
    failure = failure_in(exc)
    if failure is not None:
        note_stage(failure, stages, at)
    return None if failure is exc else failure


@block
async def open_readable(
    stages: Sequence[Stage], capacity: float, on_failure: Callable[[], None] | None = None
) -> AsyncGenerator[ReceiveChannel[Any], None]:
    """Run stages without a sink beside the block. Leaving the block ends them.

    `on_failure` is called as soon as a stage fails, for a block that reads several channels and may be waiting at another.
    """
    this = _run_of(stages, capacity, tail=True)
    this.on_failure = on_failure
    assert this.receive is not None
    with _seen(this) if observing.observers else UNSEEN:
        async with this:
            this.begin(len(this.tasks))
            yield this.receive


async def attempt(
    stages: Sequence[Stage],
    capacity: float,
    take: Take,
    *,
    whole: Sequence[Stage] | None = None,
    source: ReceiveChannel[Any] | None = None,
) -> BaseException | None:
    """Run stages without a sink beside `take`, and return their failure, if any, instead of raising it.

    It returns when all of them have ended; before a failure, `take` gets the items that the last stage had sent. Exceptions
    of `take`, and any that no stage has raised, are raised. `whole` is the chain whose first stages these are, `source` the
    channel that they read from.
    """
    if not stages:
        assert source is not None
        await take(source)
        return None
    this = _run_of(stages, capacity, tail=True, whole=stages if whole is None else whole)
    if source is not None:
        this.tasks[0].source = source
    assert this.receive is not None
    try:
        with _seen(this) if observing.observers else UNSEEN:
            async with this:
                this.begin(len(this.tasks))
                await take(this.receive)
    except BaseException as exc:
        if this.has_failed_by(exc):
            shorten_traceback(exc)
            return exc
        raise
    return None


@block
async def open_writable(stages: Sequence[Stage], capacity: float) -> AsyncGenerator[SendChannel[Any], None]:
    """Run stages without a source beside the block. Leaving it ends their input; an exception cancels them (R13)."""
    this = _run_of(stages, capacity, head=True)
    assert this.send is not None
    with _seen(this) if observing.observers else UNSEEN:
        async with this:
            this.begin(len(this.tasks))
            yield this.send
