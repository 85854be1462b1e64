"""The Lunar dialect put together."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import tzinfo

from spinney.core.kernel import Kernel, Retention, Target
from spinney.dialects.lunar.access import NAME
from spinney.dialects.lunar.answers import BODY_MAX_BYTES
from spinney.dialects.lunar.credentials import CredentialRoutes
from spinney.dialects.lunar.cron import next_time
from spinney.dialects.lunar.documents import document_routes
from spinney.dialects.lunar.events import cron_meta
from spinney.dialects.lunar.functions import RUNTIME, FunctionRoutes, schedule_of
from spinney.dialects.lunar.history import HistoryRoutes
from spinney.dialects.lunar.hot import METHODS, PATHS, HotFunction
from spinney.dialects.lunar.invoke import CRON, Invoke
from spinney.dialects.lunar.replies import error_body
from spinney.dialects.lunar.router import Router
from spinney.errors import Unsupported
from spinney.http.hot import Handler
from spinney.http.websocket import SocketRoute
from spinney.http.wire import ASGIApp
from spinney.model import Execution, Function, Rights, Version

RIGHTS = Rights()
DAY_S = 86400.0
RETENTION_DAYS = 7


class Lunar:
    """One of the server's APIs. ``zone_name`` is the server's time zone, as programs shall know it."""

    name = NAME
    result_bytes = BODY_MAX_BYTES
    services: tuple[str, ...] = ("kv", "env", "http", "ai", "email")

    def __init__(self, kernel: Kernel, *, base_url: str, timeout_s: int, zone: tzinfo, zone_name: str) -> None:
        self._invoke = invoke = Invoke(kernel, timeout_s)
        self._base_url = base_url
        self._zone = zone
        self._zone_name = zone_name
        self._hot: dict[tuple[str, str], Handler] = {
            (method, path): HotFunction(kernel, invoke, base_url, method) for method in METHODS for path in PATHS
        }
        self._router = Router(
            {
                **FunctionRoutes(kernel, timeout_s, zone).routes(),
                **HistoryRoutes(kernel).routes(),
                **CredentialRoutes(kernel, base_url).routes(),
                **document_routes(),
            }
        )
        self.retention = Retention(None, _kept_s, begun=invoke.begin_record)

    def error_body(self, status: int, message: str) -> bytes:
        return error_body(message)

    def hot_routes(self) -> dict[tuple[str, str], Handler]:
        return dict(self._hot)

    def sockets(self) -> dict[str, SocketRoute]:
        return {}

    def app(self) -> ASGIApp:
        return self._router

    def rights(self, version: Version) -> Rights:
        return RIGHTS

    def environment(self, function: Function, version: Version) -> Mapping[str, str]:
        return {"TZ": self._zone_name}

    def stems(self) -> list[tuple[str, Rights]]:
        return [(RUNTIME, RIGHTS)]

    async def run_queued(self, target: Target, execution: Execution) -> None:
        raise Unsupported("Lunar queues no calls")

    def schedule(self, target: Target) -> str | None:
        return schedule_of(target.function)

    def next_time(self, text: str, after: float) -> float | None:
        """When a schedule is due, in the server's zone unless it names one."""
        return next_time(text, after, self._zone)

    async def run_scheduled(self, target: Target, due: float) -> None:
        schedule = target.function.settings["cron_schedule"]
        await self._invoke.run(target, cron_meta(target, self._base_url, schedule, due), b"", CRON)


def _kept_s(function: Function) -> float:
    return (function.settings["retention_days"] or RETENTION_DAYS) * DAY_S
