"""The exceptions of our own, and the one rule that tells a failure from a cancellation or a hang-up.

Rule 1: a `Cancelled` belongs to Trio; nothing here keeps one.
Rule 2: a hang-up is the very object that a channel of ours raised, told apart by the channel it carries (R15).
Rule 3: one failure is raised as it is, the same object; two or more are raised as a group (R11).
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Final, TypeAlias, TypeGuard

import trio

# The packages whose frames may stand between two of ours.
_BETWEEN: Final = frozenset({"trioflow", "trio", "outcome", "contextlib"})

Kinds: TypeAlias = type[Exception] | tuple[type[Exception], ...]


class HangUp(trio.BrokenResourceError):
    """What our channel raises in a sender whose last reader has gone, and at both ends when it was aborted.

    To user code it is a plain `trio.BrokenResourceError`. The engine swallows it, and only it: `channel` says which
    channel raised it, or which run when it was stopped, so that a user's own broken socket always surfaces.
    """

    def __init__(self, channel: object, reason: str) -> None:
        super().__init__(reason)
        self.channel = channel


def check_trio() -> None:
    """Raise unless Trio runs the calling task."""
    if not trio.lowlevel.in_trio_run():
        raise RuntimeError(
            "trioflow runs on Trio; start your program with trio.run(main), not with asyncio.run(main())"
        )


def failure_in(exc: BaseException, *channels: object) -> BaseException | None:
    """Return what is a failure in `exc`: neither a `Cancelled` nor a hang-up of one of `channels`."""

    def is_quiet(part: BaseException) -> bool:
        if isinstance(part, HangUp):
            return any(part.channel is channel for channel in channels)
        return isinstance(part, trio.Cancelled)

    if isinstance(exc, BaseExceptionGroup):
        quiet, failure = exc.split(is_quiet)
        return exc if quiet is None else failure  # `split` makes a new group even where it leaves nothing out
    return None if is_quiet(exc) else exc


def shorten_traceback(exc: BaseException) -> None:
    """Cut from a traceback all but the first and the last of our frames in a row: users look for theirs.

    So are those of what it was caused by, and of the members of a group. Frames of Trio go where they stand between two of
    ours; those after the last of ours say what failed, and stay.
    """
    seen: set[int] = set()
    exceptions: list[BaseException | None] = [exc]
    while exceptions:
        each = exceptions.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        exceptions += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            exceptions += each.exceptions
        first: TracebackType | None = None
        frame = each.__traceback__
        while frame is not None:
            package = str(frame.tb_frame.f_globals.get("__name__")).partition(".")[0]
            if package not in _BETWEEN:
                first = None
            elif package == "trioflow":
                if first is not None:
                    first.tb_next = frame
                first = first or frame
            frame = frame.tb_next


def cancelled_in(exc: BaseException) -> BaseException | None:
    """Return the part of `exc` that is Trio's cancellation, to be raised on."""
    if isinstance(exc, BaseExceptionGroup):
        return exc.split(trio.Cancelled)[0]
    return exc if isinstance(exc, trio.Cancelled) else None


def split_failure(exc: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """Return what is an `Exception` in `exc`, and what is not, such as a cancellation or Ctrl-C: that is to be raised on."""
    if isinstance(exc, BaseExceptionGroup):
        return exc.split(Exception)
    return (exc, None) if isinstance(exc, Exception) else (None, exc)


def sole(exc: BaseException) -> BaseException:
    """Return the one exception that a group of one holds, however deep; any other is returned as it is."""
    while isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc


def is_among(failure: BaseException, kinds: tuple[type[Exception], ...]) -> TypeGuard[Exception]:
    """Return whether `failure` is of one of `kinds`; of a group, whether all in it are."""
    if isinstance(failure, BaseExceptionGroup) and not isinstance(failure, kinds):
        return all(is_among(part, kinds) for part in failure.exceptions)
    return isinstance(failure, kinds)


def note(failure: BaseException, text: str) -> None:
    """Note `text` on `failure`, once: an exception object may be raised by several runs (R11)."""
    notes = getattr(failure, "__notes__", [])
    if text not in notes:
        object.__setattr__(failure, "__notes__", [*notes, text])  # a frozen dataclass takes no `add_note`


def combined(failures: Sequence[BaseException], of: str) -> BaseException:
    """Make one exception of one or more failures of `of`: a single one stays itself, the same object (R11)."""
    if len(failures) == 1:
        return failures[0]
    return BaseExceptionGroup(f"{len(failures)} {of} failed", failures)
