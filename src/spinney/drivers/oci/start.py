"""Bringing one sandbox to life, and undoing it at whatever point it failed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

from spinney.drivers.channel import GuestChannel
from spinney.drivers.oci.bundle import Person, Placement, Template, encode_config
from spinney.drivers.oci.identity import Ids
from spinney.drivers.oci.network import Link
from spinney.drivers.oci.place import Place
from spinney.drivers.oci.processes import Child, reap_group
from spinney.drivers.oci.sandbox import OciSandbox
from spinney.drivers.oci.seccomp import encode_seccomp
from spinney.errors import StartFailed
from spinney.ports import SandboxSpec

RUNTIME_GRACE_S = 2.0
"""How long a runtime may still work when its sandbox is not wanted any more: killing it half-way leaves more to clear up."""


class Start:
    """One attempt. Exactly one of ``run``'s sandbox and ``undo`` takes care of what it made."""

    def __init__(self, place: Place, spec: SandboxSpec) -> None:
        self._place = place
        self._spec = spec
        self._ids: Ids | None = None
        self._channel: GuestChannel | None = None
        self._runtime: Child | None = None
        self._init: Child | None = None
        self._link: Link | None = None
        self._booting: asyncio.Task[None] | None = None

    async def run(self) -> OciSandbox:
        """A sandbox whose guest is ready. Raises StartFailed, OSError."""
        self._ids = self._place.identities.take()
        self._booting = asyncio.create_task(self._boot(self._ids))
        await asyncio.shield(self._booting)
        assert self._init is not None and self._channel is not None
        await self._channel.ready
        if self._spec.warm:
            await self._channel.warm()
        return OciSandbox(
            self._spec,
            person=self._person(self._ids),
            init=self._init,
            channel=self._channel,
            link=self._link,
            place=self._place,
            clear=self._clear,
        )

    async def _boot(self, ids: Ids) -> None:
        """Run the runtime until it has left the sandbox's first process to us. Never cancelled: a thread uses its descriptors."""
        ours, theirs = socket.socketpair()
        stdout, stderr = os.pipe(), os.pipe()
        ends = (theirs.detach(), stdout[1], stderr[1])
        try:
            self._channel = await GuestChannel.connect(
                ours, stdout[0], stderr[0], self._place.watchdog, self._spec.limits, logged=self._spec.launch.pipes_are_logs
            )
            self._runtime = Child(await self._place.call(self._spawn, ids, *ends))
            code = await self._runtime.wait()
        finally:
            for fd in ends:
                os.close(fd)
        if code:
            raise StartFailed("the container runtime refused it")
        self._init = Child(self._read_pid())
        if self._spec.rights.net and self._place.network is not None:
            self._link = await self._place.call(self._place.network.connect, self._init.pid)

    def _spawn(self, ids: Ids, channel: int, stdout: int, stderr: int) -> int:
        """Write the bundle and start the runtime; the runtime's pid. In a thread, for it works on files."""
        place, name = self._place, self._spec.id
        place.run_dir.make_bundle(name, ids)
        placement = Placement(
            ids=ids,
            task=str(place.run_dir.task(name)),
            cgroup=place.cgroups.location(name),
            resources=place.cgroups.resources(self._spec.limits),
            person=self._person(ids),
        )
        bundle = place.run_dir.bundle(name)
        (bundle / "config.json").write_bytes(encode_config(self._template(), self._spec, placement))
        placement.person.give(stdout, stderr)
        return place.runtime.run(name, bundle, channel, stdout, stderr)

    def _person(self, ids: Ids) -> Person:
        host_id = ids.root if ids.guest is None else ids.guest
        return Person(ids.inside, host_id, self._spec.limits, counted=self._place.cgroups.version == 0)

    def _template(self) -> Template:
        place, network = self._place, self._spec.rights.net
        nameservers = place.network.nameservers if place.network is not None else []
        return Template(
            rootfs=str(place.run_dir.root(network)),
            mounts=place.run_dir.make_root(network, nameservers, self._spec.launch.mounts),
            init=place.init,
            seccomp=encode_seccomp() if place.filtered else None,
        )

    def _read_pid(self) -> int:
        return int((self._place.run_dir.bundle(self._spec.id) / "pid").read_text())

    async def undo(self) -> str:
        """Remove everything that the attempt made; what the runtime said, for the server's own log."""
        await self._end_processes()
        if self._channel is not None:
            self._channel.close()
        said = await self._place.call(self._read_log)
        await self._clear()
        return said

    async def _end_processes(self) -> None:
        if self._booting is not None:
            await asyncio.wait((self._booting,), timeout=RUNTIME_GRACE_S)
            if not self._booting.done() and self._runtime is not None:
                self._runtime.kill()
            await asyncio.wait((self._booting,))
        pids = await self._place.call(self._place.cgroups.kill, self._spec.id)
        with contextlib.suppress(OSError, ValueError):
            pids.append(self._read_pid())
        for pid in pids if self._init is None else ():
            with contextlib.suppress(ChildProcessError):
                stray = Child(pid)
                stray.kill()
                await stray.wait()
        if self._init is not None:
            self._init.kill()
            await self._init.wait()
        if self._runtime is not None:
            await self._place.call(reap_group, self._runtime.pid, RUNTIME_GRACE_S)

    def _read_log(self) -> str:
        with contextlib.suppress(OSError):
            return (self._place.run_dir.bundle(self._spec.id) / "log").read_text(errors="replace")[-2000:]
        return ""

    async def _clear(self) -> None:
        """Once all its processes are dead: remove a sandbox's traces and let its ids and address be used again."""
        await self._place.call(self._remove_traces)
        if self._ids is not None:
            self._place.identities.give(self._ids)
        self._place.forget(self._spec.id)

    def _remove_traces(self) -> None:
        if self._link is not None and self._place.network is not None:
            self._place.network.disconnect(self._link)
        self._place.remove_traces(self._spec.id)
