"""`async with` blocks made of async generators, for any kind of exception."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, ParamSpec, TypeVar

from trioflow._core.errors import shorten_traceback

P = ParamSpec("P")
T = TypeVar("T")

_ENTER: Final = "enter it first: `async with ... as entered:`, and then use `entered`"


def _refuse(self: object, *args: object) -> NoReturn:
    raise TypeError(f"this is an `async with` block; {_ENTER}")


class _Block(AbstractAsyncContextManager[T], Generic[T]):
    def __init__(self, generator: AsyncGenerator[T, None]) -> None:
        self._generator = generator

    if not TYPE_CHECKING:
        __await__ = __iter__ = __aiter__ = _refuse

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(f"an `async with` block has no attribute {name!r}; {_ENTER}")

    async def __aenter__(self) -> T:
        return await anext(self._generator)

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        try:
            await (anext(self._generator) if raised is None else self._generator.athrow(raised))
        except StopAsyncIteration as exc:
            return exc is not raised
        except BaseException as exc:
            # Python turns a StopAsyncIteration that leaves a generator into a RuntimeError.
            if raised is None or not (exc is raised or (isinstance(exc, RuntimeError) and exc.__cause__ is raised)):
                shorten_traceback(exc)
                raise
            shorten_traceback(raised.with_traceback(traceback))
            return False
        raise RuntimeError("the generator of an async context manager must yield once")


def block(function: Callable[P, AsyncGenerator[T, None]]) -> Callable[P, AbstractAsyncContextManager[T]]:
    """Do what `contextlib.asynccontextmanager` does, without setting attributes of exceptions, which frozen ones refuse."""

    def make(*args: P.args, **kwargs: P.kwargs) -> AbstractAsyncContextManager[T]:
        return _Block(function(*args, **kwargs))

    return make
