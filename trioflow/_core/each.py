"""Functions that are called for each item. Adjacent ones become one loop, which passes an item through all of them.

    map(f), filter(g), map(h)   become   [x for x in items
                                          for x in [f(x)]
                                          if g(x)
                                          for x in [h(x)]
                                          ]

Python has no quicker way to do this, and needs 0.14 µs for three such functions, as long as for nested generators. A list
between two functions would add 20 ns an item, and let items that are larger than a number leave the processor's cache.

Rule 1: a function may only be joined to others if its operator keeps nothing between items.
Rule 2: each function has a line of its own in the loop, so that a failure's traceback says which one has raised (R11).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple, Self, TypeAlias

from trioflow._core.checks import refuse_coroutine
from trioflow._core.fused import Operator
from trioflow._core.labels import name_of

Kind: TypeAlias = Literal["map", "starmap", "filter", "tap"]

# `for x in [...]` with one item in the list is how a comprehension spells an assignment; Python makes no list of it.
_LINES: Final[dict[Kind, str]] = {
    "map": "for x in [{}(x)]",
    "starmap": "for x in [{}(*x)]",
    "filter": "if {}(x)",
    "tap": "for _ in [{}(x)]",
}
_FILE: Final = "<functions called for each item>"
_MOST: Final = 16  # functions in one loop: to compile it takes 8 µs for each, once for each sequence of kinds


class _Step(NamedTuple):
    kind: Kind
    function: Callable[..., Any]


class Each(Operator[Any, Any]):
    """Calls a function for each item, or several one after another."""

    def __init__(self, kind: Kind, function: Callable[..., Any]) -> None:
        self._steps = [_Step(kind, function)]
        self._functions: list[Callable[..., Any]] = []  # of the steps; those that were never called are wrapped
        self._has_wrapped = False
        self._loop: Callable[..., list[Any]] | None = None

    def joined(self, after: Operator[Any, Any], *, is_counted: bool) -> Self | None:
        """Take the functions of `after` too. A filter's output can be counted only at the end of the loop."""
        if not isinstance(after, Each) or len(self._steps) + len(after._steps) > _MOST:
            return None
        if is_counted and any(step.kind == "filter" for step in self._steps):
            return None
        self._steps += after._steps
        return self

    def feed(self, items: list[Any]) -> list[Any]:
        """Return what the functions make of `items`. The results of a function's first batch are checked one by one."""
        if self._loop is None:
            self._loop = _loop(tuple(step.kind for step in self._steps))
            self._functions = [_Checked(step) for step in self._steps]
            self._has_wrapped = True
        try:
            given = self._loop(items, *self._functions)
        except BaseException as exc:
            self.at = _find_step(exc)
            if isinstance(exc, StopIteration):  # a generator up the stack would make another message of it
                raise RuntimeError(f"the function given to {self._steps[self.at].kind} raised StopIteration") from exc
            raise
        if self._has_wrapped:
            self._functions = [each.unwrapped() if isinstance(each, _Checked) else each for each in self._functions]
            self._has_wrapped = any(isinstance(each, _Checked) for each in self._functions)
        return given


class _Checked:
    """The function of a step that has not been called yet: a plain function that returns a coroutine is refused."""

    __slots__ = ("_step", "_was_called")

    def __init__(self, step: _Step) -> None:
        self._step = step
        self._was_called = False

    def __repr__(self) -> str:
        # Python shows this in the error for an item that `starmap` cannot spread.
        return f"{name_of(self._step.function)}()"

    def __call__(self, *args: Any) -> Any:
        given = self._step.function(*args)
        refuse_coroutine(self._step.kind, given)
        self._was_called = True
        return given

    def unwrapped(self) -> Callable[..., Any]:
        """Return the function itself if it has been called: a filter before it may have dropped all items so far."""
        return self._step.function if self._was_called else self


@lru_cache(1000)
def _loop(kinds: tuple[Kind, ...]) -> Callable[..., list[Any]]:
    """Return the loop for functions of these kinds: it takes the items, and then the functions."""
    names = [f"f{i}" for i in range(len(kinds))]
    lines = [_LINES[kind].format(name) for kind, name in zip(kinds, names, strict=True)]
    made: dict[str, Any] = {}
    text = "\n".join([f"def loop(items, {', '.join(names)}): return [x for x in items", *lines, "]"])
    exec(compile(text, _FILE, "exec"), made)
    return made["loop"]  # type: ignore[no-any-return]


def _find_step(exc: BaseException) -> int:
    """Return the index of the function that raised `exc`, from the line at which the loop was. Take the loop's frames away."""
    line = 1
    feed = exc.__traceback__
    assert feed is not None
    place = feed.tb_next
    while place is not None and place.tb_frame.f_code.co_filename == _FILE:
        line, place = place.tb_lineno, place.tb_next
    feed.tb_next = place
    return max(line - 2, 0)
