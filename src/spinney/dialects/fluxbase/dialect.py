"""The Fluxbase dialect put together."""

from __future__ import annotations

from spinney.core.kernel import Kernel, Retention, Target, next_time
from spinney.dialects.fluxbase.access import Access, Rates
from spinney.dialects.fluxbase.guest import RequestMeta
from spinney.dialects.fluxbase.hot import METHODS, HotInvoke
from spinney.dialects.fluxbase.invoke import CRON, NAME, RESULT_MAX_BYTES, Invoke
from spinney.dialects.fluxbase.routes import INVOKE, RUNTIME, make_routes, sentence
from spinney.dialects.fluxbase.rules import DEFAULTS
from spinney.dialects.fluxbase.stream import STREAM, Stream
from spinney.dialects.fluxbase.wire import to_json
from spinney.errors import Unsupported
from spinney.http.hot import Handler
from spinney.http.websocket import SocketRoute
from spinney.http.wire import ASGIApp
from spinney.model import Execution, Function, Rights, Version

KEPT_NEWEST = 10_000
KEPT_S = 30 * 86400.0


class Fluxbase:
    """One of the server's APIs."""

    name = NAME
    result_bytes = RESULT_MAX_BYTES
    services: tuple[str, ...] = ()
    retention = Retention(KEPT_NEWEST, lambda function: KEPT_S, interrupted=False)
    next_time = staticmethod(next_time)

    def __init__(
        self,
        kernel: Kernel,
        *,
        invoke_auth: str = "optional",
        rate_writes: int = 60,
        rate_lists: int = 300,
        rate_history: int = 300,
        rate_invokes: int = 600,
    ) -> None:
        """invoke_auth: ``optional`` or ``required``. rate_...: requests per minute, 0 for any number."""
        self._kernel = kernel
        access = Access(kernel, invoke_auth=invoke_auth, rates=Rates(rate_writes, rate_lists, rate_history, rate_invokes))
        self._invoke = Invoke(kernel)
        self._hot = {(method, INVOKE): HotInvoke(kernel, method, access, self._invoke) for method in METHODS}
        self._stream = Stream(kernel, access, self._invoke)
        self._routes = make_routes(kernel, access)

    @property
    def url(self) -> str:
        """Where the API is for its users, without a slash at the end."""
        return f"{self._kernel.public_url}/{NAME}"

    def error_body(self, status: int, message: str) -> bytes:
        return to_json({"error": sentence(message)})

    def hot_routes(self) -> dict[tuple[str, str], Handler]:
        return dict(self._hot)

    def sockets(self) -> dict[str, SocketRoute]:
        return {STREAM: self._stream.route}

    def app(self) -> ASGIApp:
        return self._routes

    def rights(self, version: Version) -> Rights:
        settings = {**DEFAULTS, **version.settings}
        return Rights(
            net=settings["allow_net"], env=settings["allow_env"], read=settings["allow_read"], write=settings["allow_write"]
        )

    def environment(self, function: Function, version: Version) -> dict[str, str]:
        return {"FLUXBASE_URL": self.url, "FLUXBASE_FUNCTION_NAME": function.name}

    def stems(self) -> list[tuple[str, Rights]]:
        return [(RUNTIME, Rights(net=True, env=True, read=False, write=False))]

    def schedule(self, target: Target) -> str | None:
        """When a function runs by itself: cron text, None for never."""
        settings = target.version.settings
        schedule: str | None = settings["cron_schedule"] if settings["enabled"] else None
        return schedule

    async def run_scheduled(self, target: Target, due: float) -> None:
        """One run by schedule (contract 2.8)."""
        url = f"{self.url}{INVOKE.format(name=target.function.name).removesuffix('invoke')}scheduled"
        meta = RequestMeta("POST", url, [("content-type", "application/json")])
        await self._invoke.run(target, to_json(meta), b"{}", CRON)

    async def run_queued(self, target: Target, execution: Execution) -> None:
        raise Unsupported("Fluxbase has no calls that run later")
