"""What a guest writes to standard output and error, and what is kept of it as a call's log."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable
from time import time

from spinney.model import LogLine

PIPE_READ = 65536


class CallLog:
    """What one call has logged, up to a number of bytes of UTF-8."""

    __slots__ = ("left", "lines", "times", "truncated")

    def __init__(self, limit_bytes: int) -> None:
        self.lines: list[LogLine] = []
        self.times: list[float] = []
        self.left = limit_bytes
        self.truncated = False

    def add(self, level: str, raw: bytes) -> None:
        if self.left <= 0:
            self.truncated = True
            return
        if len(raw) > self.left:
            raw = raw[: self.left]
            self.truncated = True
        self.left -= len(raw) + 1
        self.times.append(time())
        self.lines.append(LogLine(level, raw.decode("utf-8", "ignore" if self.truncated else "replace")))


class OutputPipe:
    """One of the guest's output pipes: always drained, cut into lines, kept only while a call runs."""

    def __init__(self, fd: int, level: str, sink: Callable[[str, bytes], None]) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self._level = level
        self._sink = sink
        self._partial = b""
        self.used = False

    @property
    def half(self) -> bool:
        """Whether a line has begun and not ended."""
        return bool(self._partial)

    def read(self) -> bool:
        """Take what one read gives; False at the end or when nothing is there."""
        try:
            data = os.read(self.fd, PIPE_READ)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self.fd)
            return False
        self.used = self._sink is not ignore
        lines = (self._partial + data).split(b"\n")
        self._partial = lines.pop()
        for line in lines:
            self._emit(line)
        if len(self._partial) >= PIPE_READ:
            self.flush()
        return True

    def flush(self) -> None:
        """End the line that has no end yet."""
        if self._partial:
            line, self._partial = self._partial, b""
            self._emit(line)

    def forget(self) -> None:
        self._partial = b""

    def _emit(self, line: bytes) -> None:
        if line and not line.isspace():
            self._sink(self._level, line.rstrip(b"\r"))


class Outputs:
    """Both output pipes together: read by the loop as they fill, and to the end at the moment a call is over."""

    def __init__(self, stdout: int, stderr: int, sink: Callable[[str, bytes], None]) -> None:
        loop = asyncio.get_running_loop()
        self._pipes = {fd: OutputPipe(fd, level, sink) for fd, level in ((stdout, "info"), (stderr, "warn"))}
        self._stdout, self._stderr = self._pipes.values()
        self._poll = select.poll()
        self._closed = False
        for fd, pipe in self._pipes.items():
            self._poll.register(fd, select.POLLIN)
            loop.add_reader(fd, pipe.read)

    @property
    def used(self) -> bool:
        """Whether anything was ever logged this way: then whose it is can only be known while one call is sent at a time."""
        return self._stdout.used or self._stderr.used

    def drain(self, budget_bytes: int = 16 << 20) -> None:
        """Read all that was written before now; a pipe holds less than ``budget_bytes``, so an endless writer is cut."""
        ready = self._poll.poll(0)
        while ready and budget_bytes > 0 and not self._closed:
            more = [fd for fd, _ in ready if self._pipes[fd].read()]
            budget_bytes -= PIPE_READ
            ready = self._poll.poll(0) if more else []

    def finish(self) -> None:
        """A call is over: take all that was written before now, and end the lines that have no end."""
        self.drain()
        if self._stdout.half or self._stderr.half:
            self._stdout.flush()
            self._stderr.flush()

    def forget(self) -> None:
        """Drop half lines of whatever wrote between two calls; the whole ones were dropped as they came."""
        if self._stdout.half or self._stderr.half:
            self._stdout.forget()
            self._stderr.forget()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        loop = asyncio.get_running_loop()
        for fd in self._pipes:
            loop.remove_reader(fd)
            os.close(fd)


def ignore(level: str, raw: bytes) -> None:
    """What becomes of output that is no log: the pipes are drained all the same."""
