"""The NIL dialect put together."""

from __future__ import annotations

from spinney.core.kernel import Kernel, Retention, Target, next_time
from spinney.dialects.nil.access import NAME
from spinney.dialects.nil.hot import HotExecute, HotHealth
from spinney.dialects.nil.invoke import RESULT_MAX_BYTES, Invoke, begin_record
from spinney.dialects.nil.routes import EXECUTE, HEALTH, RUNTIME, make_routes
from spinney.dialects.nil.wire import error_body, sentence
from spinney.errors import Unsupported
from spinney.http.hot import Handler
from spinney.http.websocket import SocketRoute
from spinney.http.wire import ASGIApp
from spinney.model import Execution, Function, Rights, Version

RIGHTS = Rights()


class Nil:
    """One of the server's APIs."""

    name = NAME
    result_bytes = RESULT_MAX_BYTES
    services: tuple[str, ...] = ()
    retention = Retention(None, begun=begin_record)
    next_time = staticmethod(next_time)

    def __init__(self, kernel: Kernel) -> None:
        self._invoke = Invoke(kernel)
        execute, health = HotExecute(kernel, self._invoke), HotHealth(kernel)
        self._hot: dict[tuple[str, str], Handler] = {("POST", EXECUTE): execute, ("GET", HEALTH): health}
        self._routes = make_routes(kernel, execute, health)

    def error_body(self, status: int, message: str) -> bytes:
        return error_body(status, sentence(message))

    def hot_routes(self) -> dict[tuple[str, str], Handler]:
        return dict(self._hot)

    def sockets(self) -> dict[str, SocketRoute]:
        return {}

    def app(self) -> ASGIApp:
        return self._routes

    def rights(self, version: Version) -> Rights:
        return RIGHTS

    def environment(self, function: Function, version: Version) -> dict[str, str]:
        return {}

    def stems(self) -> list[tuple[str, Rights]]:
        return [(RUNTIME, RIGHTS)]

    async def run_queued(self, target: Target, execution: Execution) -> None:
        await self._invoke.run_queued(target, execution)

    def schedule(self, target: Target) -> None:
        return None

    async def run_scheduled(self, target: Target, due: float) -> None:
        raise Unsupported("NIL has no schedules")
