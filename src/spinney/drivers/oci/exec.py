"""A process beside the guest: started by the runtime into the sandbox's namespaces, its output read through pipes or a pty."""

from __future__ import annotations

import array
import asyncio
import fcntl
import itertools
import os
import socket
import struct
import termios
from collections.abc import Mapping
from pathlib import Path

import msgspec
import structlog

from spinney.drivers.oci.bundle import Person, describe_process
from spinney.drivers.oci.place import Place
from spinney.drivers.oci.processes import Child
from spinney.errors import SandboxDied
from spinney.ports import Command

log = structlog.get_logger(__name__)
CHUNK = 65536
TERMINAL_TIMEOUT_S = 5.0
_numbers = itertools.count(1)


class Output:
    """One stream of a process, read when somebody asks: a slow reader slows the process and not the server's memory."""

    def __init__(self, name: str, fd: int) -> None:
        os.set_blocking(fd, False)
        self.name = name
        self._fd = fd
        self.ended = False

    async def wait(self) -> None:
        """Return when a read will not block."""
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self._fd, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._fd)

    def read(self) -> bytes:
        """What is there; b"" when nothing is, or at the end."""
        if self.ended:
            return b""
        try:
            data = os.read(self._fd, CHUNK)
        except BlockingIOError:
            return b""
        except OSError:  # a pty whose last process has ended
            data = b""
        if not data:
            self.close()
        return data

    def close(self) -> None:
        if not self.ended:
            self.ended = True
            os.close(self._fd)


class OciProcess:
    """A Process (see ports). ``stdin`` is ours to close; with a ``terminal`` it is the pty."""

    def __init__(self, child: Child, stdin: int, outputs: list[Output], *, terminal: bool) -> None:
        os.set_blocking(stdin, False)
        self._child = child
        self._stdin = stdin
        self._outputs = outputs
        self._terminal = terminal
        self._closed = False

    async def write(self, data: bytes) -> None:
        if self._closed:
            return
        if not data:
            self._end_input()
        loop = asyncio.get_running_loop()
        while data and not self._closed:
            try:
                data = data[os.write(self._stdin, data) :]
            except BlockingIOError:
                room = asyncio.Event()
                loop.add_writer(self._stdin, room.set)
                try:
                    await room.wait()
                finally:
                    loop.remove_writer(self._stdin)
            except OSError:  # nobody reads any more
                return

    def _end_input(self) -> None:
        """A pty has no end of its own: there it is the character that means one."""
        if self._terminal:
            os.write(self._stdin, b"\x04")
        else:
            self._closed = True
            os.close(self._stdin)

    async def read(self) -> tuple[str, bytes]:
        while True:
            for output in self._outputs:
                data = output.read()
                if data:
                    return output.name, data
            waiting = [asyncio.create_task(output.wait()) for output in self._outputs if not output.ended]
            if not waiting:
                return "", b""
            try:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in waiting:
                    task.cancel()
                await asyncio.gather(*waiting, return_exceptions=True)

    async def wait(self) -> int:
        code = await self._child.wait()
        assert code is not None
        return code

    def resize(self, columns: int, rows: int) -> None:
        if self._terminal and not self._closed:
            fcntl.ioctl(self._stdin, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def kill(self) -> None:
        self._child.kill()

    def close(self) -> None:
        """After the end of the process and when nobody reads: give back the descriptors. Idempotent."""
        for output in self._outputs:
            output.close()
        if not self._closed:
            self._closed = True
            os.close(self._stdin)


async def execute(place: Place, name: str, command: Command, environment: Mapping[str, str], person: Person) -> OciProcess:
    """Start a command in a living sandbox, its environment over the guest's. Raises SandboxDied when it cannot be started."""
    merged = {**environment, **command.environment}
    process = describe_process(command.argv, merged, person, cwd=command.cwd, terminal=command.pty)
    number = next(_numbers)
    file = place.run_dir.bundle(name) / f"p{number}"
    try:
        await place.call(file.write_bytes, msgspec.json.encode(process))
        if command.pty:
            return await _execute_with_terminal(place, name, file)
        return await _execute_with_pipes(place, name, file, person)
    except (OSError, ValueError) as error:
        log.warning("process not started", sandbox=name, error=str(error))
        raise SandboxDied("the process could not be started in the sandbox") from error


async def _execute_with_pipes(place: Place, name: str, file: Path, person: Person) -> OciProcess:
    stdin, stdout, stderr = os.pipe(), os.pipe(), os.pipe()
    theirs, ours = (stdin[0], stdout[1], stderr[1]), (stdin[1], stdout[0], stderr[0])
    try:
        person.give(*theirs)
        child = await _run(place, name, file, theirs, None)
    except BaseException:
        for fd in ours:
            os.close(fd)
        raise
    finally:
        for fd in theirs:
            os.close(fd)
    return OciProcess(child, stdin[1], [Output("stdout", stdout[0]), Output("stderr", stderr[0])], terminal=False)


async def _execute_with_terminal(place: Place, name: str, file: Path) -> OciProcess:
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    console = file.with_suffix(".tty")
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.settimeout(TERMINAL_TIMEOUT_S)
            listener.bind(str(console))
            listener.listen()
            child = await _run(place, name, file, (null, null, null), console)
            terminal = await place.call(receive_terminal, listener)
    finally:
        os.close(null)
    return OciProcess(child, terminal, [Output("stdout", os.dup(terminal))], terminal=True)


async def _run(place: Place, name: str, file: Path, descriptors: tuple[int, int, int], console: Path | None) -> Child:
    """Run the runtime until it has left the new process to us."""
    runtime = Child(await place.call(place.runtime.execute, name, file, descriptors, console))
    if await runtime.wait():
        raise OSError(await place.call(Path(f"{file}.log").read_text))
    return Child(int(await place.call(Path(f"{file}.pid").read_text)))


def receive_terminal(listener: socket.socket) -> int:
    """The descriptor of the pty that the runtime made and sends over the console socket. Blocking, with the socket's timeout."""
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(listener.gettimeout())
        room = socket.CMSG_SPACE(array.array("i", [0]).itemsize)
        _, ancillary, _, _ = connection.recvmsg(4096, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            return int(array.array("i", data[:4])[0])
    raise OSError("the runtime sent no terminal")
