"""The ``oci`` driver: one bundle and one run of an OCI runtime for each sandbox (docs/decisions/0002-oci-sandbox.md)."""

from __future__ import annotations

import asyncio
import hashlib
import os
import platform
import re
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import structlog

from spinney.drivers.channel import Watchdog
from spinney.drivers.oci.examine import examine
from spinney.drivers.oci.identity import find_identities
from spinney.drivers.oci.machine import (
    check_user_namespaces,
    counts_processes_by_namespace,
    find_cgroups,
    find_init,
    find_runtime,
    read_nameservers,
)
from spinney.drivers.oci.network import Network
from spinney.drivers.oci.place import Place
from spinney.drivers.oci.processes import be_patient, become_subreaper
from spinney.drivers.oci.run_dir import RunDir
from spinney.drivers.oci.runtime import OciRuntime
from spinney.drivers.oci.sandbox import OciSandbox
from spinney.drivers.oci.settings import OciSettings
from spinney.drivers.oci.start import Start
from spinney.drivers.oci.sweep import sweep
from spinney.errors import Error, StartFailed, Unavailable, Unsupported
from spinney.ports import Features, Sandbox, SandboxSpec

log = structlog.get_logger(__name__)
P = ParamSpec("P")
T = TypeVar("T")
SAFE_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
THREADS = 4
WARM_PATIENCE = 6
"""So many times as long may a sandbox take that warms up: nobody waits for it, and a compiler's first build costs seconds."""


class OciDriver:
    """A Driver (see ports) for one server.

    run_dir: a directory of this server's alone, and the same after a restart: by it ``sweep`` finds what a killed server left.
    Its ``tag`` is in the names of the control groups, links and rules that this driver makes on the host.
    """

    def __init__(self, run_dir: Path, settings: OciSettings | None = None) -> None:
        """Raises Unsupported when this machine cannot isolate (the message says what to do), ValueError for wrong settings."""
        self._settings = settings or OciSettings()
        self.tag = tag = hashlib.sha256(os.fsencode(run_dir.absolute())).hexdigest()[:12]
        check_user_namespaces()
        self._run_dir = RunDir(run_dir.absolute())
        self._runtime = OciRuntime(find_runtime(self._settings.runtime), self._run_dir.state)
        self._cgroups = find_cgroups(f"spinney-{tag}")
        self._identities = find_identities(self._settings.uid_base, tag)
        self._init = find_init()
        self._network = self._find_network(tag)
        self.name = "oci"
        self.features = self._describe()
        self._watchdog = Watchdog()
        self._executor = ThreadPoolExecutor(THREADS, "spinney-oci", be_patient)
        self._starts = asyncio.Semaphore(self._settings.starts_max or 2 * (os.cpu_count() or 1))
        self._names: set[str] = set()
        self._sandboxes: dict[str, OciSandbox] = {}
        self._starting: set[asyncio.Task[OciSandbox]] = set()
        self._ready: asyncio.Task[None] | None = None
        self._closed = False

    def _find_network(self, tag: str) -> Network | None:
        if os.geteuid() != 0:
            return None
        record = self._run_dir.path.parent / "forwarding-was-off"
        nameservers = self._settings.nameservers or read_nameservers()
        try:
            return Network(tag, self._settings.network_cidr, self._settings.egress_allow, nameservers, record)
        except Unsupported:
            return None

    def _describe(self) -> Features:
        limited = self._cgroups.version > 0
        rootless = os.geteuid() != 0
        return Features(
            tier=f"oci/{self._runtime.name}" + (" rootless" if rootless else ""),
            network=self._network is not None,
            pty=True,
            limits_memory=limited,
            limits_cpu=limited,
            limits_pids=limited or counts_processes_by_namespace(platform.release()),
            notes=examine(self._runtime.binary, self._cgroups, network=self._network is not None),
        )

    # -- Driver --------------------------------------------------------------------------------------------------------

    async def create(self, spec: SandboxSpec) -> Sandbox:
        if not SAFE_ID.fullmatch(spec.id) or spec.id in self._names:
            raise StartFailed("the sandbox has no name that is safe and its own")
        if spec.rights.net and self._network is None:
            raise StartFailed("this server has no network for sandboxes")
        self._names.add(spec.id)
        try:
            await self._prepare()
            starting = asyncio.create_task(self._start(spec))
            self._starting.add(starting)
            starting.add_done_callback(self._starting.discard)
            sandbox = await starting
        except BaseException as error:
            self._names.discard(spec.id)
            if self._closed and isinstance(error, asyncio.CancelledError):
                raise Unavailable("the server is stopping") from error
            raise
        return sandbox

    async def _start(self, spec: SandboxSpec) -> OciSandbox:
        async with self._starts:
            sandbox = await self._try_to_start(spec)
        self._sandboxes[spec.id] = sandbox
        return sandbox

    async def _try_to_start(self, spec: SandboxSpec) -> OciSandbox:
        start = Start(self._place, spec)
        patience = WARM_PATIENCE if spec.warm else 1
        try:
            async with asyncio.timeout(self._settings.start_timeout_s * patience):
                return await start.run()
        except BaseException as error:
            detail = await asyncio.shield(start.undo())
            if not isinstance(error, Exception):
                raise
            log.warning("sandbox not started", sandbox=spec.id, error=repr(error), detail=detail)
            if isinstance(error, Error):
                raise
            reason = "it was not ready in time" if isinstance(error, TimeoutError) else "the host refused it"
            raise StartFailed(reason) from error

    async def attach(self, state: Mapping[str, Any]) -> Sandbox | None:
        """Always None: a guest channel has no name by which another server could take it over, so ``sweep`` ends the sandbox."""
        return None

    async def sweep(self, keep: Collection[str]) -> int:
        """As in ports; sandboxes that this driver made and that are not closed are never swept."""
        await self._prepare()
        return await self._call(sweep, self._place, {*keep, *self._names})

    def memory_bytes(self) -> int:
        return self._cgroups.memory_bytes()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for starting in self._starting:
            starting.cancel()
        await asyncio.gather(*self._starting, return_exceptions=True)
        await asyncio.gather(*(sandbox.close() for sandbox in list(self._sandboxes.values())))
        if self._ready is not None and not (await asyncio.gather(self._ready, return_exceptions=True))[0]:
            await self._call(self._give_back)
        self._executor.shutdown(wait=False)

    # -- the driver itself ---------------------------------------------------------------------------------------------

    async def _prepare(self) -> None:
        if self._closed:
            raise Unavailable("the server is stopping")
        if self._ready is None:
            become_subreaper()
            self._ready = asyncio.create_task(self._call(self._take_place))
        try:
            await asyncio.shield(self._ready)
        except (Error, OSError):
            self._ready = None
            raise

    def _take_place(self) -> None:
        """Raises Unavailable, Unsupported, OSError, and then holds nothing."""
        self._run_dir.prepare()
        try:
            self._cgroups.prepare(self._settings.memory_budget_bytes, self._settings.pids_budget)
        except BaseException:
            self._run_dir.close()
            raise

    def _give_back(self) -> None:
        if self._network is not None:
            self._network.close()
        self._cgroups.close()
        self._run_dir.close()

    @property
    def _place(self) -> Place:
        return Place(
            run_dir=self._run_dir,
            runtime=self._runtime,
            cgroups=self._cgroups,
            identities=self._identities,
            network=self._network,
            init=self._init,
            filtered=self._settings.seccomp,
            watchdog=self._watchdog,
            call=self._call,
            forget=self._forget,
        )

    def _forget(self, name: str) -> None:
        self._names.discard(name)
        self._sandboxes.pop(name, None)

    async def _call(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Run blocking work in one of the driver's threads."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: function(*arguments, **named))
