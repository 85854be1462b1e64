"""Which call a piece of code runs for: the asynchronous context's, handed on to the threads that it starts."""

from __future__ import annotations

import concurrent.futures
import contextvars
import functools
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:  # the typing module would only cost start-up time here
    from collections.abc import Callable
    from typing import Any

    from .calls import Call

owner: contextvars.ContextVar[Call | None] = contextvars.ContextVar("spinney_owner", default=None)


def follow_threads() -> None:
    """Let threads and the work given to thread pools belong to the call that started them."""
    start = threading.Thread.start
    submit = concurrent.futures.ThreadPoolExecutor.submit

    @functools.wraps(start)
    def start_owned(self: threading.Thread) -> None:
        self.run = functools.partial(_run_for, owner.get(), self.run)  # type: ignore[method-assign]
        start(self)

    @functools.wraps(submit)  # type: ignore[arg-type]
    def submit_owned(
        self: concurrent.futures.ThreadPoolExecutor, function: Callable[..., Any], /, *args: Any, **keywords: Any
    ) -> concurrent.futures.Future[Any]:
        return submit(self, _run_for, owner.get(), function, *args, **keywords)

    threading.Thread.start = start_owned  # type: ignore[method-assign]
    concurrent.futures.ThreadPoolExecutor.submit = submit_owned  # type: ignore[assignment, method-assign]


def _run_for(call: Call | None, function: Callable[..., Any], /, *args: Any, **keywords: Any) -> Any:
    owner.set(call)
    return function(*args, **keywords)
