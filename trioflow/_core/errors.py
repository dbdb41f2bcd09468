"""Our own exceptions, and the rule that distinguishes a failure from a cancellation or a hang-up.

Rule 1: a `Cancelled` belongs to Trio; nothing here keeps one.
Rule 2: a hang-up is an exception object that our own channel has raised; it names the channel (R15).
Rule 3: a single failure is raised as the same object, several are raised as a group (R11).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import TracebackType
from typing import Final, TypeAlias, TypeGuard

import trio

# Frames of these packages are cut if they are between two of ours.
_BETWEEN: Final = frozenset({"trioflow", "trio", "outcome", "contextlib"})

Kinds: TypeAlias = type[Exception] | tuple[type[Exception], ...]


class HangUp(trio.BrokenResourceError):
    """Raised by our channels: in a sender after the last reader has closed, and at both ends after an abort.

    To users it is a `trio.BrokenResourceError`. The engine ignores this exception and no other: `channel` is the channel
    that raised it, or the run that was stopped, so a user's own broken socket is always reported.
    """

    def __init__(self, channel: object, reason: str) -> None:
        super().__init__(reason)
        self.channel = channel


def check_trio() -> None:
    """Raise `RuntimeError` unless Trio runs the calling task."""
    if not trio.lowlevel.in_trio_run():
        raise RuntimeError(
            "trioflow runs on Trio; start your program with trio.run(main), not with asyncio.run(main())"
        )


def failure_in(exc: BaseException, *channels: object, loud: BaseException | None = None) -> BaseException | None:
    """Return the part of `exc` that is a failure: neither a `Cancelled` nor a hang-up of one of `channels`.

    The hang-up `loud`, if given, is a failure.
    """

    def is_quiet(part: BaseException) -> bool:
        if isinstance(part, HangUp):
            return part is not loud and any(part.channel is channel for channel in channels)
        return isinstance(part, trio.Cancelled)

    if isinstance(exc, BaseExceptionGroup):
        quiet, failure = exc.split(is_quiet)
        return exc if quiet is None else failure  # `split` makes a new group even if it removes nothing
    return None if is_quiet(exc) else exc


def shorten_traceback(exc: BaseException) -> None:
    """Shorten a traceback so that users find their own frames: of our frames in a row, keep the first and the last.

    The tracebacks of causes, contexts and members of groups are shortened too, but not those of cancellations, which nobody
    reads. Trio's frames are cut if they are between two of ours; those after our last one stay, as they say what failed.
    """
    seen: set[int] = set()
    exceptions: list[BaseException | None] = [exc]
    while exceptions:
        each = exceptions.pop()
        if each is None or id(each) in seen or isinstance(each, trio.Cancelled):
            continue
        seen.add(id(each))
        exceptions += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            exceptions += each.exceptions
        _shorten(each.__traceback__)


def _shorten(frame: TracebackType | None) -> None:
    first = last = None  # of our frames in a row
    while True:
        package = None if frame is None else _package_of(frame.tb_frame.f_globals.get("__name__"))
        if package not in _BETWEEN:
            if first is not last and first is not None:  # once for each row: Python follows the whole chain to set it
                first.tb_next = last
            first = last = None
        elif package == "trioflow":
            first, last = first or frame, frame
        if frame is None:
            return
        frame = frame.tb_next


@cache
def _package_of(module: object) -> str:
    return str(module).partition(".")[0]


def cancelled_in(exc: BaseException) -> BaseException | None:
    """Return the part of `exc` that is Trio's cancellation, which the caller must raise again."""
    if isinstance(exc, BaseExceptionGroup):
        return exc.split(trio.Cancelled)[0]
    return exc if isinstance(exc, trio.Cancelled) else None


def split_failure(exc: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """Return the `Exception` in `exc`, and the rest (a cancellation, Ctrl-C), which the caller must raise again."""
    if isinstance(exc, BaseExceptionGroup):
        return exc.split(Exception)
    return (exc, None) if isinstance(exc, Exception) else (None, exc)


def sole(exc: BaseException) -> BaseException:
    """Unwrap a group of one exception, however deeply nested, and return that exception. Return others unchanged."""
    while isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc


def is_among(failure: BaseException, kinds: tuple[type[Exception], ...]) -> TypeGuard[Exception]:
    """Return whether `failure` is of one of `kinds`, or is a group whose members all are."""
    if isinstance(failure, BaseExceptionGroup) and not isinstance(failure, kinds):
        return all(is_among(part, kinds) for part in failure.exceptions)
    return isinstance(failure, kinds)


def note(failure: BaseException, text: str) -> None:
    """Add the note `text` to `failure`, unless it has it: several runs may raise the same exception object (R11)."""
    notes = getattr(failure, "__notes__", [])
    if text not in notes:
        object.__setattr__(failure, "__notes__", [*notes, text])  # `add_note` fails for a frozen dataclass


def combined(failures: Sequence[BaseException], of: str) -> BaseException:
    """Return one exception for one or more failures: a single one itself, several in a group named after `of` (R11)."""
    if len(failures) == 1:
        return failures[0]
    return BaseExceptionGroup(f"{len(failures)} {of} failed", failures)
