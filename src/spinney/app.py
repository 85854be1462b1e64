"""Everything put together: the only module that knows concrete classes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import os
import secrets
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import structlog

from spinney.clock import SystemClock, local_zone
from spinney.config import Settings
from spinney.core.background import Background, Run
from spinney.core.budget import Budget
from spinney.core.builds import Builds
from spinney.core.entries import Entries
from spinney.core.functions import Functions
from spinney.core.index import Index, Target
from spinney.core.invoke import Invoker
from spinney.core.kernel import Kernel
from spinney.core.limits import RateLimits
from spinney.core.metrics import Metrics
from spinney.core.pool import Pool, PoolLimits
from spinney.core.record import Records, Retention
from spinney.core.schedule import Plan, Schedules
from spinney.core.selfcheck import CheckResult, self_check
from spinney.core.services.host import HostServices, grant, make_services
from spinney.core.services.ledger import Ledger
from spinney.core.sessions import Sessions
from spinney.core.stems import Kind, Stems
from spinney.core.tokens import TokenBook, Tokens
from spinney.core.workshop import Workshop
from spinney.dialects.fluxbase import Fluxbase
from spinney.dialects.impuls import Impuls
from spinney.dialects.lunar import Lunar
from spinney.dialects.nil import Nil
from spinney.drivers.oci import OciDriver, OciSettings
from spinney.egress.policy import EgressPolicy
from spinney.egress.web import HttpWeb
from spinney.errors import Error, Invalid, Unsupported
from spinney.http.address import join_port
from spinney.http.exposition import Counts, exposition
from spinney.http.front import Dialect, Front
from spinney.model import Rights
from spinney.ports import Compiler, Driver, Limits, Load, Runtime, Services, Store
from spinney.runtimes.assemblyscript import AssemblyScriptCompiler
from spinney.runtimes.deno import DenoRuntime
from spinney.runtimes.go import GoCompiler
from spinney.runtimes.lua import LuaRuntime
from spinney.runtimes.node import NodeRuntime
from spinney.runtimes.python import PythonRuntime
from spinney.runtimes.rust import RustCompiler
from spinney.runtimes.wasm import WasmRuntime
from spinney.stores.blobs import FileBlobs
from spinney.stores.journal import FileJournal
from spinney.stores.sql import SqlStore

log = structlog.get_logger("spinney")

DIALECTS: tuple[Callable[[Kernel, Settings], Dialect], ...] = (
    lambda kernel, settings: Impuls(kernel, network=settings.impuls.network, executions_kept=settings.impuls.executions_kept),
    lambda kernel, settings: Fluxbase(kernel, **settings.fluxbase.model_dump()),
    lambda kernel, settings: Nil(kernel),
    lambda kernel, settings: make_lunar(kernel, settings),
)
RUNTIMES: tuple[Callable[[], Runtime], ...] = (NodeRuntime, PythonRuntime, DenoRuntime, WasmRuntime, LuaRuntime)
COMPILERS: tuple[Callable[[], Compiler], ...] = (AssemblyScriptCompiler, RustCompiler, GoCompiler)
STEM_MEMORY_MB = 128
MEMORY_SHARE = 0.6


class App:
    """A server that is built but not started. ``front`` is the ASGI application; ``reason`` says why it is not ready yet."""

    def __init__(self, settings: Settings, driver: Driver, store: Store, admin_key: str) -> None:
        clock = SystemClock()
        self.settings = settings
        self.driver = driver
        self.reason: str | None = "starting"
        self.runtimes = runtimes_by_id()
        self._store = store
        self._index = index = Index()
        self._journal = FileJournal(settings.data_dir / "journal", store.write_executions)
        self._budget = Budget(memory_budget(settings))
        self._stems = _make_stems(settings, driver, self._budget)
        self._pool = Pool(driver, self._stems, self._budget, _pool_limits(settings), self._kind, self._load)
        plans: dict[str, Plan] = {}
        self._schedules = Schedules(clock, index, plans)
        self._workshop = Workshop(driver, self._budget)
        self._builds = Builds(
            store,
            FileBlobs(settings.data_dir / "blobs"),
            index,
            clock,
            self._workshop,
            make_compilers(),
            WasmRuntime(),
            modules={"wasm": AssemblyScriptCompiler().check},  # they are called as AssemblyScript's are
            **settings.builds.model_dump(),
        )
        self._entries = Entries(store.entries)
        self._ledger = Ledger(store, clock)
        self._functions = Functions(store, index, clock, self._retire, self._follow, self._builds.plan, self._pool.revive)
        self._tokens = Tokens(store, clock, admin_key)
        self._sessions = Sessions(store, clock, admin_key)
        retention: dict[str, Retention] = {}
        self._records = Records(store, self._journal, index, driver.features.tier, retention)
        services: dict[str, Callable[[Target], Services]] = {}
        runs: dict[str, Run] = {}
        self._background = Background(self._records, index, runs)
        self.kernel = Kernel(
            clock=clock,
            index=index,
            functions=self._functions,
            builds=self._builds,
            entries=self._entries,
            ledger=self._ledger,
            invoker=Invoker(self._pool, self._records, self.runtimes, services),
            records=self._records,
            background=self._background,
            tokens=self._tokens,
            sessions=self._sessions,
            limits=RateLimits(clock, off=settings.no_rate_limits),
            metrics=Metrics(),
            runtimes=self.runtimes,
            open_access=is_loopback(settings.host),
            public_url=public_url(settings),
        )
        self.front = Front(lambda: self.reason, self._metrics)
        self._dialects: dict[str, Dialect] = {}
        for make in DIALECTS:
            dialect = make(self.kernel, settings)
            self._dialects[dialect.name] = dialect
            runs[dialect.name] = dialect.run_queued
            plans[dialect.name] = Plan(dialect.schedule, dialect.run_scheduled, next_time=dialect.next_time)
            retention[dialect.name] = dialect.retention
            self.front.mount(dialect, root=settings.root == dialect.name)
        self._web = make_web(settings)
        services.update(self._granted())
        self._kinds: dict[tuple[str, Rights], Kind] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._drained_at: float | None = None

    def _granted(self) -> dict[str, Callable[[Target], Services]]:
        """What the host does for functions, for those dialects whose functions may ask for it."""
        offered = make_services(self._entries, self._web, self._ledger)
        dialects = self._dialects.values()
        return {each.name: partial(HostServices, grant(offered, each.services)) for each in dialects if each.services}

    # -- starting and stopping -----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bring every service up, in the order in which they need each other. Raises Unavailable, Unsupported, StartFailed."""
        self.reason = "starting: opening the store"
        await self._store.open()
        recovered = await self._journal.open()
        self.reason = "starting: removing what an earlier server left"
        swept = await self.driver.sweep(())
        if recovered or swept:
            log.info("recovered from a crash", records=recovered, sandboxes=swept)
        await self._functions.open()
        await self._builds.open()
        await self._tokens.open()
        await self._sessions.open()
        self.reason = "starting: booting runtimes"
        await self._warm()
        for work in (self._stems.run(), self._pool.run(), self._records.run(), self._tokens.run()):
            self._tasks.append(asyncio.create_task(self._forever(work)))
        await self._background.open()

    def serve(self) -> None:
        """From now on requests are answered and schedules fire."""
        self.reason = None
        self._schedules.open()
        for work in (self._schedules.run(), self._workshop.run(), self._builds.run()):
            self._tasks.append(asyncio.create_task(self._forever(work)))

    def stop(self) -> float:
        """Begin to drain: nothing fires any more. The seconds that remain to what runs, of ``drain_s`` from the first time."""
        now = asyncio.get_running_loop().time()
        if self._drained_at is None:
            self._drained_at = now + self.settings.drain_s
            self._schedules.stop()
        return max(0.0, self._drained_at - now)

    async def _warm(self) -> None:
        """Boot one stem of each kind that the dialects usually need; a runtime that cannot start is a warning, not the end."""
        installed = self.installed()
        usual = [wish for dialect in self._dialects.values() for wish in dialect.stems() if wish[0] in installed]
        kinds = {kind.key: kind for kind in (self._kind_of(*wish) for wish in usual)}
        results = await asyncio.gather(*(self._stems.warm(kind) for kind in kinds.values()), return_exceptions=True)
        for kind, result in zip(kinds.values(), results, strict=True):
            if isinstance(result, Error):
                log.warning("a runtime does not start", runtime=kind.key, reason=result.message)
            elif isinstance(result, BaseException):
                raise result

    async def _forever(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self.reason = "a background service stopped"
            log.critical("a background service stopped", error=repr(error), exc_info=True)

    async def close(self) -> None:
        """Finish what was accepted, write what is to be kept, remove every sandbox. Idempotent."""
        self.reason = "stopping"
        left_s = self.stop()
        await self._builds.close()
        await asyncio.gather(self._background.close(left_s), self._schedules.close(left_s))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await self._pool.close()
        await self._workshop.close()
        await self._stems.close()
        await self.driver.close()
        await self._web.close()
        await self._entries.close()
        await self._ledger.flush()
        await self._tokens.close()
        with contextlib.suppress(Error):
            await self._journal.close()
        await self._store.close()

    # -- what Functions tells ------------------------------------------------------------------------------------------

    def _retire(self, version_id: str) -> None:
        self._pool.retire(version_id)
        self._builds.forget(version_id)

    def _follow(self, function_id: str) -> None:
        self._schedules.follow(function_id)
        self._builds.follow(function_id)
        if self._index.get_function(function_id) is None:
            self._entries.forget_function(function_id)

    # -- what the pool asks --------------------------------------------------------------------------------------------

    def installed(self) -> dict[str, str]:
        """Runtime ids that can run here, and the language version that would."""
        found: dict[str, str] = {}
        for runtime in {id(runtime): runtime for runtime in self.runtimes.values()}.values():
            found.update(runtime.installed())
        return found

    def _runtime(self, runtime_id: str) -> Runtime:
        runtime = self.runtimes.get(runtime_id)
        if runtime is None:
            raise Unsupported(f"runtime '{runtime_id}' is not known")
        return runtime

    def _limits(self, memory_mb: int) -> Limits:
        sandbox = self.settings.sandbox
        return Limits(memory_mb=memory_mb + sandbox.extra_memory_mb, cpus=sandbox.cpus)

    def _kind_of(self, runtime_id: str, rights: Rights) -> Kind:
        """Looked up once per runtime and rights: finding binaries asks the file system."""
        kind = self._kinds.get((runtime_id, rights))
        if kind is None:
            launch = self._runtime(runtime_id).launch(runtime_id, rights)
            kind = self._kinds[runtime_id, rights] = Kind(launch, self._limits(STEM_MEMORY_MB), rights)
        return kind

    def _kind(self, target: Target) -> Kind:
        return self._kind_of(target.version.runtime, self._dialects[target.function.dialect].rights(target.version))

    async def _load(self, target: Target) -> Load:
        version = await self._functions.version(target)
        dialect = self._dialects[target.function.dialect]
        limits = msgspec.structs.replace(self._limits(version.memory_mb), result_bytes=dialect.result_bytes)
        environment = {**dialect.environment(target.function, version), **version.environment}
        version = msgspec.structs.replace(version, environment=environment)
        if self._builds.needs(version):
            executable = await self._builds.executable(target.id)
            version = msgspec.structs.replace(version, source="", settings={**version.settings, "executable": executable})
        return self._runtime(version.runtime).load(target.function, version, limits)

    # -- looking at itself ---------------------------------------------------------------------------------------------

    async def check_runtimes(self) -> list[CheckResult]:
        """Run one function of each installed runtime for real."""
        return [
            await self_check(self._runtime(name), name, version, self._kind_of(name, Rights()), self.driver)
            for name, version in self.installed().items()
        ]

    def _metrics(self) -> bytes:
        counts = Counts(
            pool=self._pool.counts(),
            stems=self._stems.counts(),
            workshop=self._workshop.counts(),
            builds=self._builds.counts(),
            memory_bytes=self._budget.used_bytes,
            functions=len(self._index),
        )
        return exposition(self.kernel.metrics, counts)


def make_lunar(kernel: Kernel, settings: Settings) -> Lunar:
    zone_name, zone = local_zone(os.environ)
    base_url = settings.lunar.base_url or lunar_url(settings)
    return Lunar(
        kernel, base_url=base_url.removesuffix("/"), timeout_s=settings.lunar.execution_timeout, zone=zone, zone_name=zone_name
    )


def lunar_url(settings: Settings) -> str:
    """Where browsers find the Lunar API, unless it is said."""
    mount = "" if settings.root == Lunar.name else f"/{Lunar.name}"
    if settings.public_url is None and is_wildcard(settings.host):
        return f"http://localhost:{settings.port}{mount}"
    return public_url(settings) + mount


def build(settings: Settings) -> App:
    """An App from its settings. Raises Unsupported when this machine cannot isolate, Invalid, Unavailable."""
    if settings.isolation == "microvm":
        raise Unsupported("isolation 'microvm' is not available in this version; use 'oci' or 'auto'")
    prepare_data_dir(settings.data_dir)
    return App(settings, make_driver(settings), make_store(settings), admin_key(settings))


def make_driver(settings: Settings) -> Driver:
    sandbox = settings.sandbox
    return OciDriver(
        sandbox.run_dir or run_dir(settings.data_dir),
        OciSettings(
            runtime=sandbox.runtime,
            uid_base=sandbox.uid_base or 0,
            memory_budget_bytes=memory_budget(settings),
            starts_max=sandbox.starts_parallel,
            egress_allow=tuple(str(network) for network in settings.egress_allow),
        ),
    )


def make_web(settings: Settings) -> HttpWeb:
    return HttpWeb(EgressPolicy([str(network) for network in settings.egress_allow]))


def make_store(settings: Settings) -> SqlStore:
    return SqlStore(settings.database_url or f"sqlite:///{settings.data_dir.resolve() / 'spinney.db'}")


def make_token_book(settings: Settings, store: Store) -> TokenBook:
    return TokenBook(store, SystemClock())


def make_compilers() -> list[Compiler]:
    return [make() for make in COMPILERS]


def runtimes_by_id() -> dict[str, Runtime]:
    """Raises Invalid when two runtimes claim one id."""
    found: dict[str, Runtime] = {}
    for make in RUNTIMES:
        runtime = make()
        for name in runtime.ids:
            if name in found:
                raise Invalid(f"runtime id '{name}' belongs to {found[name].name} and to {runtime.name}")
            found[name] = runtime
    return found


def prepare_data_dir(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)
    except OSError as error:
        raise Invalid(f"data directory {directory}: {error.strerror}", "data_dir") from None


def run_dir(data_dir: Path) -> Path:
    """Where the live sandboxes of the server with this data directory keep their files: in memory, and its own."""
    name = hashlib.sha256(str(data_dir.resolve()).encode()).hexdigest()[:12]
    base = Path("/run") if os.geteuid() == 0 else Path(os.environ.get("XDG_RUNTIME_DIR", f"/tmp/spinney-{os.geteuid()}"))
    return base / "spinney" / name


def admin_key(settings: Settings) -> str:
    """The key that was set, or the one in the data directory, made on the first start."""
    if settings.admin_key:
        return settings.admin_key
    file = settings.data_dir / "admin.key"
    with contextlib.suppress(FileNotFoundError):
        kept = file.read_text().strip()
        if kept:
            return kept
    key = secrets.token_urlsafe(32)
    temporary = file.with_suffix(".new")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(key + "\n")
    temporary.replace(file)
    print(f"admin key (kept in {file}): {key}", flush=True)
    return key


def memory_budget(settings: Settings) -> int:
    """Bytes that all sandboxes may use together."""
    if settings.sandbox.memory_budget_mb:
        return settings.sandbox.memory_budget_mb << 20
    return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * MEMORY_SHARE)


def _make_stems(settings: Settings, driver: Driver, budget: Budget) -> Stems:
    return Stems(
        driver,
        budget,
        least=settings.pool.stems_min,
        most=settings.pool.stems_max,
        starts_parallel=max(1, settings.sandbox.starts_parallel // 2),
    )


def _pool_limits(settings: Settings) -> PoolLimits:
    pool = settings.pool
    return PoolLimits(
        idle_s=pool.idle_s,
        sandboxes_per_version=pool.sandboxes_per_function,
        sandboxes_eager=2 * (os.cpu_count() or 1),
        queue_per_version=pool.queue_per_function,
        queue_total=pool.queue_total,
        queue_wait_s=pool.queue_wait_s,
    )


def public_url(settings: Settings) -> str:
    """Where users find the server: as set, else its own address, or loopback's when it listens on all of them."""
    if settings.public_url:
        return settings.public_url.rstrip("/")
    host = settings.host
    if is_wildcard(host):
        host = "::1" if ":" in host else "127.0.0.1"
    return f"http://{join_port(host, settings.port)}"


def is_wildcard(host: str) -> bool:
    """Whether a server on this host listens on all addresses of the machine."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
