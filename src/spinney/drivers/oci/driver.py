"""The ``oci`` driver: one bundle and one run of an OCI runtime for each sandbox."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import socket
from collections import deque
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import structlog

from spinney.drivers.channel import GuestChannel, Watchdog
from spinney.drivers.oci.bundle import Ids, Template, encode_config
from spinney.drivers.oci.machine import find_cgroups, find_init
from spinney.drivers.oci.processes import Child, become_subreaper, spawn
from spinney.drivers.oci.rootfs import add_mount_points, make_rootfs
from spinney.drivers.oci.sandbox import OciSandbox
from spinney.drivers.oci.settings import UID_BASE, UID_RANGE, OciSettings, find_binary
from spinney.errors import StartFailed, Unsupported
from spinney.ports import Features, Sandbox, SandboxSpec

log = structlog.get_logger(__name__)
P = ParamSpec("P")
T = TypeVar("T")
SAFE_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class OciDriver:
    """A Driver (see ports) for one server.

    run_dir: a directory of this server's alone, best on a tmpfs; the same again after a restart, so that ``sweep`` finds what a
        killed server left. Control groups are named after it.
    """

    def __init__(self, run_dir: Path, settings: OciSettings | None = None) -> None:
        """Raises Unsupported when this machine cannot isolate; the message says what to do."""
        self._settings = settings or OciSettings()
        runtime = find_binary(self._settings.runtime)
        if runtime is None:
            raise Unsupported(f"{self._settings.runtime} is not installed: apt-get install {self._settings.runtime}")
        digest = hashlib.sha256(str(run_dir).encode()).hexdigest()
        self.name = "oci"
        self.features = Features(tier=f"oci/{os.path.basename(runtime)}")
        self._runtime = runtime
        self._run_dir = run_dir
        self._cgroups = find_cgroups(f"spinney-{digest[:12]}")
        self._uid_base = self._settings.uid_base or UID_BASE + int(digest[:8], 16) % 1024 * UID_RANGE
        self._slots = deque(range(UID_RANGE // 2))
        self._sandboxes: dict[str, OciSandbox] = {}
        self._templates: dict[tuple[str, bool], Template] = {}
        self._init = find_init()
        self._watchdog = Watchdog()
        self._executor = ThreadPoolExecutor(4, "spinney-oci")
        self._starts = asyncio.Semaphore(self._settings.starts_max or 2 * (os.cpu_count() or 1))
        self._prepared = False

    # -- Driver --------------------------------------------------------------------------------------------------------

    async def create(self, spec: SandboxSpec) -> Sandbox:
        if not SAFE_ID.fullmatch(spec.id):
            raise StartFailed("the sandbox has no safe name")
        await self._prepare()
        async with self._starts:
            slot = self._slots.popleft()
            try:
                async with asyncio.timeout(self._settings.start_timeout_s):
                    sandbox = await self._start(spec, slot)
            except BaseException as error:
                await asyncio.shield(self._discard(spec.id, slot))
                if isinstance(error, TimeoutError):
                    raise StartFailed("the sandbox was not ready in time") from error
                if isinstance(error, OSError):
                    log.warning("sandbox could not be started", sandbox=spec.id, error=str(error))
                    raise StartFailed(f"the sandbox could not be started: {error.strerror}") from error
                raise
        self._sandboxes[spec.id] = sandbox
        return sandbox

    async def attach(self, state: Mapping[str, Any]) -> Sandbox | None:
        """Always None: the guest channel has no name through which a new server could take it over."""
        return None

    async def sweep(self, keep: Collection[str]) -> int:
        await self._prepare()
        kept = {*keep, *self._sandboxes}
        names = (self._cgroups.names() | set(os.listdir(self._run_dir / "s"))) - kept
        for name in names:
            await self._call(self._cgroups.kill, name)
        for name in names:
            await self._call(self._remove_traces, name)
        return len(names)

    def memory_bytes(self) -> int:
        return self._cgroups.memory_bytes()

    async def close(self) -> None:
        await asyncio.gather(*(sandbox.close() for sandbox in list(self._sandboxes.values())))
        self._cgroups.close()
        await self._call(shutil.rmtree, self._run_dir, True)
        self._executor.shutdown(wait=False)

    # -- one sandbox ---------------------------------------------------------------------------------------------------

    async def _start(self, spec: SandboxSpec, slot: int) -> OciSandbox:
        ids = Ids(self._uid_base + 2 * slot, self._uid_base + 2 * slot + 1)
        ours, theirs = socket.socketpair()
        pipes = [os.pipe(), os.pipe()]
        ends = [theirs.detach(), pipes[0][1], pipes[1][1]]
        try:
            channel = await GuestChannel.connect(
                ours,
                pipes[0][0],
                pipes[1][0],
                self._watchdog,
                result_bytes=spec.limits.result_bytes,
                log_bytes=spec.limits.log_bytes,
            )
            try:
                init = await self._boot(spec, ids, ends)
                sandbox = self._wrap(spec, slot, init, channel)
            except BaseException:
                channel.close()
                raise
        finally:
            for fd in ends:
                os.close(fd)
        try:
            await channel.ready
        except BaseException:
            await asyncio.shield(sandbox.close())
            raise
        return sandbox

    def _wrap(self, spec: SandboxSpec, slot: int, init: Child, channel: GuestChannel) -> OciSandbox:
        async def remove(name: str) -> None:
            await self._discard(name, slot)

        return OciSandbox(spec, str(self._directory(spec.id) / "task"), init, channel, self._cgroups, remove)

    async def _boot(self, spec: SandboxSpec, ids: Ids, ends: list[int]) -> Child:
        """Run the runtime until it has left the sandbox's first process to us."""
        directory = self._directory(spec.id)
        runtime = Child(await self._call(self._spawn, spec, ids, ends, directory))
        if await runtime.wait():
            log.warning("runtime refused a sandbox", sandbox=spec.id, detail=(directory / "log").read_text()[-2000:])
            raise StartFailed("the sandbox could not be started: the container runtime refused it")
        return Child(int((directory / "pid").read_text()))

    def _spawn(self, spec: SandboxSpec, ids: Ids, ends: list[int], directory: Path) -> int:
        """Write the bundle and start the runtime; in a thread, for it works on files."""
        task = directory / "task"
        task.mkdir(parents=True)
        directory.chmod(0o711)
        task.chmod(0o750)
        os.chown(task, 0, ids.guest)
        template = self._template(spec)
        resources = self._cgroups.resources(spec.limits)
        config = encode_config(template, spec, ids, str(task), self._cgroups.location(spec.id), resources)
        (directory / "config.json").write_bytes(config)
        for fd in ends[1:]:
            os.fchown(fd, ids.guest, ids.guest)
        argv = [self._runtime, "--root", str(self._run_dir / "state"), "--log", str(directory / "log"), "run", "-d"]
        argv += ["--preserve-fds", "1", "--pid-file", str(directory / "pid"), "-b", str(directory), spec.id]
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return spawn(argv, [null, ends[1], ends[2], ends[0]], {"PATH": os.defpath})
        finally:
            os.close(null)

    def _template(self, spec: SandboxSpec) -> Template:
        key = (spec.launch.key, spec.network)
        found = self._templates.get(key)
        if found is None:
            rootfs = self._run_dir / "rootfs"
            add_mount_points(rootfs, spec.launch.mounts)
            found = Template(rootfs=str(rootfs), mounts=tuple(self._mounts), init=self._init, seccomp=None)
            self._templates[key] = found
        return found

    async def _discard(self, name: str, slot: int) -> None:
        """After the end of all its processes: remove what a sandbox left outside, and free its ids."""
        await self._call(self._remove_traces, name)
        self._sandboxes.pop(name, None)
        self._slots.append(slot)

    def _remove_traces(self, name: str) -> None:
        self._cgroups.kill(name)
        self._cgroups.remove(name)
        shutil.rmtree(self._run_dir / "state" / name, ignore_errors=True)
        shutil.rmtree(self._directory(name), ignore_errors=True)

    def _directory(self, name: str) -> Path:
        return self._run_dir / "s" / name

    # -- the driver itself ---------------------------------------------------------------------------------------------

    async def _prepare(self) -> None:
        if not self._prepared:
            self._prepared = True
            become_subreaper()
            await self._call(self._prepare_files)

    def _prepare_files(self) -> None:
        for directory in (self._run_dir, self._run_dir / "s", self._run_dir / "state"):
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(0o711)
        shutil.rmtree(self._run_dir / "rootfs", ignore_errors=True)
        self._mounts = make_rootfs(self._run_dir / "rootfs")
        self._cgroups.prepare(self._settings.memory_budget_bytes, self._settings.pids_budget)

    async def _call(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)
