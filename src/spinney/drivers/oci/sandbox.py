"""One living sandbox of the ``oci`` driver: its first process, its guest channel, its control group."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import msgspec

from spinney.drivers.channel import GuestChannel
from spinney.drivers.oci.bundle import Person, environment
from spinney.drivers.oci.exec import OciProcess, execute
from spinney.drivers.oci.network import Link
from spinney.drivers.oci.place import Place
from spinney.drivers.oci.processes import Child, take_descriptor
from spinney.errors import SandboxDied, StartFailed
from spinney.model import Call, Outcome, Reply, ResourceUsage
from spinney.ports import Command, Load, Process, SandboxSpec, Services

EXIT_GRACE_S = 0.25
"""How long a guest whose channel ended may take to die by itself: its own exit code says more than that of our kill."""

KILLED = 137
CHANNEL_FD = 3


class OciSandbox:
    """A Sandbox (see ports). Made by ``Start``.

    person: who its processes are. clear: removes what the sandbox has outside, once its processes are dead.
    """

    def __init__(
        self,
        spec: SandboxSpec,
        *,
        person: Person,
        init: Child,
        channel: GuestChannel,
        link: Link | None,
        place: Place,
        clear: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self.id = spec.id
        self._environment = environment(spec)
        self._person = person
        self._init = init
        self._channel = channel
        self._link = link
        self._place = place
        self._clear = clear
        self._oom_kills = 0
        self._processes: list[OciProcess] = []
        self._final_usage: ResourceUsage | None = None
        self._closing: asyncio.Task[None] | None = None
        with contextlib.suppress(OSError):  # where this is not allowed, calls are sent one at a time
            self._guest_end().close()
            channel.guest_end = self._guest_end

    def _guest_end(self) -> socket.socket:
        """The sandbox's own end of the guest channel."""
        return socket.socket(fileno=take_descriptor(self._init.pid, CHANNEL_FD))

    @property
    def may_send_ahead(self) -> bool:
        return self._channel.may_send_ahead

    def load(self, load: Load) -> None:
        try:
            write_files(self._place.run_dir.task(self.id), load.files)
            self._place.cgroups.change(self.id, self._person.limits, load.limits)
        except OSError as error:
            raise StartFailed(f"the code could not be put into the sandbox: {error.strerror}") from error
        self._person = msgspec.structs.replace(self._person, limits=load.limits)
        self._channel.load(load)

    async def call(self, call: Call, deadline: float, services: Services | None = None) -> Reply:
        reply = await self._channel.call(call, deadline, services)
        if reply.outcome is Outcome.EXITED or reply.outcome is Outcome.TIMEOUT:
            await self._examine_end(reply)
        return reply

    async def _examine_end(self, reply: Reply) -> None:
        """Make sure that everything inside is dead, and tell how it died."""
        if reply.outcome is Outcome.EXITED:
            await self._init.wait(EXIT_GRACE_S)
        await self.kill()
        self._channel.collect(reply)
        if reply.outcome is Outcome.TIMEOUT:
            return
        reply.exit_code = self._init.exit_code
        kills = self._place.cgroups.oom_kills(self.id)
        if kills > self._oom_kills and reply.exit_code == KILLED:
            reply.outcome = Outcome.OUT_OF_MEMORY
        self._oom_kills = kills

    async def kill(self) -> None:
        """End the sandbox's first process; the kernel ends it only after every other process of its namespace is dead."""
        if self._init.exit_code is None:
            self._place.cgroups.hasten(self.id)
            self._init.kill()
        await self._init.wait()

    async def exec(self, command: Command) -> Process:
        if self._init.exit_code is not None:
            raise SandboxDied("the sandbox has ended", self._init.exit_code)
        process = await execute(self._place, self.id, command, self._environment, self._person)
        self._processes.append(process)
        return process

    async def poll(self) -> int | None:
        if self._channel.ended and self._init.exit_code is None:  # it broke the protocol between two calls
            await self.kill()
        return self._init.exit_code

    def usage(self) -> ResourceUsage:
        if self._final_usage is not None:
            return self._final_usage
        usage = self._place.cgroups.usage(self.id)
        if self._link is None:
            return usage
        received, sent = self._link.read_bytes()
        return usage._replace(network_rx_bytes=received, network_tx_bytes=sent)

    def state(self) -> dict[str, Any]:
        return {"id": self.id, "pid": self._init.pid}

    async def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._final_usage = self.usage()
        await self.kill()
        for process in self._processes:
            process.close()
        self._channel.close()
        await self._clear()


def write_files(directory: Path, files: Mapping[str, bytes]) -> None:
    """Put plain files into a directory of the host's that no guest can write; they are visible to its sandbox at once."""
    directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name, content in files.items():
            if not name or "/" in name or name in (".", ".."):
                raise StartFailed("a file of the code has no plain name")
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(name, flags, 0o444, dir_fd=directory_fd)
            with os.fdopen(fd, "wb") as file:
                file.write(content)
                os.fchmod(fd, 0o444)  # whatever the server's umask is
    finally:
        os.close(directory_fd)
