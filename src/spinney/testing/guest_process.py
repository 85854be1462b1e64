"""A runtime's guest as a bare process: no sandbox around it, so only for code that one trusts, such as tests and measurements.

It takes loads and calls as a ``Sandbox`` does, over the guest channel of docs/guest-channel.md.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import struct
import tempfile
import termios
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

from spinney.errors import Error, StartFailed
from spinney.model import Call, LogLine, Outcome, Reply
from spinney.ports import Answer, Launch, Load, Services

HEADER = struct.Struct("<IIB")
HOST_PREFIX = struct.Struct("<II")
READY, LOAD, INVOKE, RESULT, LOG, HOST_CALL, HOST_REPLY = range(1, 8)
OUTCOMES = (Outcome.OK, Outcome.ERROR, Outcome.LOAD_ERROR, Outcome.NO_HANDLER, Outcome.BAD_RESULT, Outcome.RESULT_TOO_LARGE)
NOT_BEGUN = b"\x06" + bytes(4)
UNUSABLE = 0x80
LEVELS = ("info", "warn", "error", "debug")
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "TMPDIR": "/tmp", "LANG": "C.UTF-8", "TZ": "UTC"}
BOOT_TIMEOUT_S = 30.0


class GuestProcess:
    """One guest, booted. ``chunk_bytes`` cuts what is sent to it into pieces of that size; 0 sends frames whole.

    Raises StartFailed when it does not say that it is ready.
    """

    def __init__(self, launch: Launch, *, chunk_bytes: int = 0) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="spinney-guest-"))
        self.chunk_bytes = chunk_bytes
        self._queued = b""
        self._received = bytearray()
        self._partial: dict[int, bytes] = {}
        self._logs: list[LogLine] = []
        self._number = 0
        self._exit_code: int | None = None
        self._socket, theirs = socket.socketpair()
        outputs = os.pipe(), os.pipe()
        self._outputs = {outputs[0][0]: "info", outputs[1][0]: "warn"}
        self._logged = launch.pipes_are_logs
        self.pid = self._spawn(launch, theirs.fileno(), outputs[0][1], outputs[1][1])
        theirs.close()
        os.close(outputs[0][1])
        os.close(outputs[1][1])
        self._poll = select.poll()
        for fd in (self._socket.fileno(), *self._outputs):
            os.set_blocking(fd, False)
            self._poll.register(fd, select.POLLIN)
        kind, _, payload = self._receive(perf_counter() + BOOT_TIMEOUT_S) or (0, 0, b"")
        if kind != READY:
            self.end()
            raise StartFailed(f"the guest did not start: {[line.text for line in self._logs]}")
        self.version = str(json.loads(payload)["version"])

    def _spawn(self, launch: Launch, channel: int, stdout: int, stderr: int) -> int:
        argv = [_on_host(argument, launch) for argument in launch.argv]
        environment: Mapping[str, str] = {**ENVIRONMENT, **dict(launch.environment)}
        actions = [(os.POSIX_SPAWN_DUP2, fd, at) for fd, at in ((channel, 3), (stdout, 1), (stderr, 2))]
        return os.posix_spawn("/usr/bin/env", ["env", f"--chdir={self.directory}", *argv], environment, file_actions=actions)

    # -- as a Sandbox --------------------------------------------------------------------------------------------------

    def load(self, load: Load) -> None:
        """Write the code where the guest was started, and queue the frame for the next call."""
        for name, content in load.files.items():
            (self.directory / name).write_bytes(content)
        self._queued = HEADER.pack(len(load.payload), 0, LOAD) + load.payload

    async def call(self, call: Call, deadline: float, services: Services | None = None) -> Reply:
        """As ``Sandbox.call``; blocks the loop meanwhile."""
        return self.invoke(call, deadline - asyncio.get_running_loop().time(), services)

    async def close(self) -> None:
        """Kill the guest and remove its directory. Idempotent."""
        self.end()

    # -- without a loop ------------------------------------------------------------------------------------------------

    def invoke(self, call: Call, timeout_s: float, services: Services | None = None) -> Reply:
        """One call and its reply; the guest is killed when the time is over. ``services`` must answer at once."""
        started = perf_counter()
        self._logs = []
        self._number += 1
        self._send(call)
        reply = self._await_reply(started + timeout_s, call, services)
        self._drain()
        for fd, rest in self._partial.items():
            self._take_line(fd, rest)
        self._partial.clear()
        reply.logs = self._logs
        reply.duration_s = perf_counter() - started
        return reply

    def unread_behind(self, call: Call, timeout_s: float) -> int:
        """Send a call twice, and look when the first has logged something: bytes of the channel that the guest has not read."""
        for _ in range(2):
            self._number += 1
            self._send(call)
        frame = self._receive(perf_counter() + timeout_s)
        assert frame is not None and frame[0] == LOG and frame[1] == self._number - 1, frame
        return self._unread()

    def unread_behind_the_end(self, call: Call, seconds: float = 0.5) -> int:
        """Send a call to a guest that must not run it, and let it try: bytes of the channel that it has not read."""
        self._number += 1
        self._send(call)
        try:
            frame = self._receive(perf_counter() + seconds)
        except TimeoutError:
            return self._unread()
        assert frame is None, frame
        return HEADER.size

    def gives_back(self, call: Call, timeout_s: float) -> bool:
        """Send a call to a guest that waits for an answer of the host's: whether it gives that call back."""
        running, self._number = self._number, self._number + 1000
        self._send(call)
        frame = self._receive(perf_counter() + timeout_s)
        sent, self._number = self._number, running
        return frame == (RESULT, sent, NOT_BEGUN)

    def _unread(self) -> int:
        unread = array.array("i", [0])
        fcntl.ioctl(self._socket, termios.TIOCOUTQ, unread)
        return unread[0]

    def hang_up(self) -> int:
        """Close the channel, as a host that needs the guest no more; the exit code."""
        self._socket.shutdown(socket.SHUT_RDWR)
        return self._wait()

    def memory_bytes(self) -> int:
        """What the guest holds for itself: its anonymous memory."""
        lines = Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))

    def cpu_s(self) -> float:
        """CPU time that the guest has used so far, in all its threads."""
        return sum(int((task / "schedstat").read_text().split()[0]) / 1e9 for task in Path(f"/proc/{self.pid}/task").iterdir())

    def _send(self, call: Call) -> None:
        identity = call.id.encode()
        payload = (
            struct.pack("<III", int(call.timeout_s * 1000), len(identity), len(call.meta)) + identity + call.meta + call.body
        )
        data = self._queued + HEADER.pack(len(payload), self._number, INVOKE) + payload
        self._queued = b""
        self._write(data)

    def _write(self, data: bytes) -> None:
        self._socket.setblocking(True)
        try:
            for start in range(0, len(data), self.chunk_bytes or len(data)):
                self._socket.sendall(data[start : start + (self.chunk_bytes or len(data))])
        except (BrokenPipeError, ConnectionResetError):
            pass  # it is gone; reading will say so
        self._socket.setblocking(False)

    def _await_reply(self, deadline: float, call: Call, services: Services | None) -> Reply:
        while True:
            try:
                frame = self._receive(deadline)
            except TimeoutError:
                self._kill()
                return Reply(Outcome.TIMEOUT)
            if frame is None:
                return Reply(Outcome.EXITED, exit_code=self._wait())
            kind, number, payload = frame
            assert kind in (RESULT, LOG, HOST_CALL) and number == self._number, f"out of turn: {frame}"
            if kind == RESULT:
                return _reply(payload)
            if kind == HOST_CALL:
                assert services is not None, f"asks for something: {frame}"
                self._answer(call, services, payload)
            else:
                self._logs.append(LogLine(LEVELS[payload[0]], payload[1:].decode("utf-8", "replace")))

    def _answer(self, call: Call, services: Services, payload: bytes) -> None:
        """One request of the guest's to the host."""
        request, size = HOST_PREFIX.unpack_from(payload)
        data_at = HOST_PREFIX.size + size
        asked = json.loads(payload[HOST_PREFIX.size : data_at])
        try:
            args = json.dumps(asked.get("args", {})).encode()
            answer = services.answer(call, asked["service"], asked["method"], args, payload[data_at:])
            assert isinstance(answer, Answer), "a service here answers at once"
            said: dict[str, Any] = {"ok": answer.value}
            data = answer.data
        except Error as error:
            said, data = {"error": error.message}, b""
        text = json.dumps(said, separators=(",", ":")).encode()
        body = HOST_PREFIX.pack(request, len(text)) + text + data
        self._write(HEADER.pack(len(body), self._number, HOST_REPLY) + body)

    def _receive(self, deadline: float) -> tuple[int, int, bytes] | None:
        """The next frame; None when the guest is gone. Raises TimeoutError."""
        while True:
            if len(self._received) >= HEADER.size:
                size, number, kind = HEADER.unpack_from(self._received)
                if len(self._received) >= HEADER.size + size:
                    payload = bytes(self._received[HEADER.size : HEADER.size + size])
                    del self._received[: HEADER.size + size]
                    return kind, number, payload
            ready = [fd for fd, _ in self._poll.poll(max(0.0, deadline - perf_counter()) * 1000)]
            if not ready:
                raise TimeoutError
            if self._socket.fileno() in ready and not self._read_channel():
                return None
            for fd in self._outputs.keys() & ready:
                self._read_output(fd)

    def _read_channel(self) -> bool:
        try:
            data = self._socket.recv(1 << 20)
        except ConnectionResetError:
            return False
        self._received += data
        return bool(data)

    def _read_output(self, fd: int) -> bool:
        try:
            data = os.read(fd, 1 << 16)
        except BlockingIOError:
            return False
        if not data:
            self._poll.unregister(fd)
            return False
        *lines, self._partial[fd] = (self._partial.get(fd, b"") + data).split(b"\n")
        for line in lines:
            self._take_line(fd, line)
        return True

    def _take_line(self, fd: int, line: bytes) -> None:
        if line.strip() and self._logged:
            self._logs.append(LogLine(self._outputs[fd], line.decode("utf-8", "replace")))

    def _drain(self) -> None:
        for fd in self._outputs:
            while (fd, select.POLLIN) in [(f, event & select.POLLIN) for f, event in self._poll.poll(0)] and self._read_output(
                fd
            ):
                pass

    def _wait(self) -> int:
        if self._exit_code is None:
            code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            self._exit_code = code if code >= 0 else 128 - code
        return self._exit_code

    def _kill(self) -> None:
        if self._exit_code is None:
            os.kill(self.pid, signal.SIGKILL)
            self._wait()

    def end(self) -> None:
        """Kill the guest and remove its directory. Idempotent."""
        if self.directory.exists():
            self._kill()
            self._socket.close()
            for fd in self._outputs:
                os.close(fd)
            shutil.rmtree(self.directory)


def _on_host(argument: str, launch: Launch) -> str:
    """A path inside the sandbox as the path of the host file that is mounted there."""
    for mount in launch.mounts:
        if argument == mount.target or argument.startswith(mount.target + "/"):
            return mount.source + argument[len(mount.target) :]
    return argument


def _reply(payload: bytes) -> Reply:
    outcome = OUTCOMES[payload[0] & ~UNUSABLE]
    meta_end = 5 + int.from_bytes(payload[1:5], "little")
    reply = Reply(outcome, meta=payload[5:meta_end], reusable=payload[0] < UNUSABLE)
    if outcome is Outcome.OK:
        reply.body = payload[meta_end:]
    else:
        reply.message = payload[meta_end:].decode()
    return reply
