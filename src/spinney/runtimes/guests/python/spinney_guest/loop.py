"""The event loop of asynchronous handlers: one for the life of the process, so that clients made in one call work in the next."""

from __future__ import annotations

import asyncio
import contextvars

from .owners import owner

TYPE_CHECKING = False
if TYPE_CHECKING:  # the typing module would only cost start-up time here
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

    from .calls import Call


class OwnedTask(asyncio.Task):  # type: ignore[type-arg]
    """A task that knows which call it was made for: its exception may surface when only the garbage collector sees it."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], **keywords: Any) -> None:
        super().__init__(coroutine, **keywords)
        self.owner = owner.get()


class Loop:
    """Runs awaitables to their end. ``on_error(owner, exception)`` hears of what nobody awaited."""

    def __init__(self, on_error: Callable[[Call | None, BaseException], None]) -> None:
        self._on_error = on_error
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, awaitable: Awaitable[Any]) -> Any:
        """The awaitable's result; raises what it raises."""
        loop = self._loop if self._loop is not None and not self._loop.is_closed() else self.open()
        task = loop.create_task(awaitable if asyncio.iscoroutine(awaitable) else _await(awaitable))
        task.add_done_callback(_stop)
        while not task.done():
            loop.run_forever()
        return task.result()

    def open(self) -> asyncio.AbstractEventLoop:
        """Make a new loop and the current one."""
        self._loop = loop = asyncio.new_event_loop()
        loop.set_task_factory(_make_task)  # type: ignore[arg-type]
        loop.set_exception_handler(self._report)
        asyncio.set_event_loop(loop)
        return loop

    def _report(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is None:
            loop.default_exception_handler(context)
            return
        source = context.get("handle") or context.get("task") or context.get("future")
        self._on_error(_owner_of(source), error)


def _make_task(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **keywords: Any) -> OwnedTask:
    return OwnedTask(coroutine, loop=loop, **keywords)


def _owner_of(source: object) -> Call | None:
    if isinstance(source, OwnedTask):
        return source.owner
    if isinstance(source, asyncio.Handle):
        context: contextvars.Context = source._context  # type: ignore[attr-defined]
        return context.get(owner)
    return owner.get()


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _stop(task: asyncio.Task[Any]) -> None:
    task.get_loop().stop()
