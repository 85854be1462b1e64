"""What of WASI preview 1 there is for functions: output as logs, clocks, randomness. Everything else is refused.

The standard libraries of Rust and Go import more than a function uses; so all of it can be linked.
"""

from __future__ import annotations

import json
import os
import struct
import time

from .logs import ENTRY_BYTES_MAX, INFO, WARN

TYPE_CHECKING = False
if TYPE_CHECKING:  # only for annotations: imports cost start-up time here
    from typing import NoReturn

    from .logs import Log
    from .machine import Machine

MODULE = "wasi_snapshot_preview1"
SUCCESS, BADF, FAULT, INVAL = 0, 8, 21, 28
STANDARD = (0, 1, 2)
STDERR = 2
LEVELS = {1: INFO, STDERR: WARN}
CHARACTER_DEVICE = 2
REALTIME, MONOTONIC = 0, 1
CLOCK, ABSOLUTE = 0, 1
PARTS_MAX = 1024
"""Most pieces of one write, and most events of one wait."""
LAST_WORDS = (b"panic: ", b"fatal error: ")
"""How Go's runtime begins to say why it gives up: nothing else tells of a panic in a goroutine, or of a deadlock."""

TABLE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "wasi.json")
"""Parameters of each function, as letters: those that do something, and those that are refused, for there is no file but the
standard ones, and nothing else can be done to those. Compilers check modules by the same table."""


class Wasi:
    """The functions, for the instances of a machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._log: Log
        self._lines: dict[int, bytes] = {}
        with open(TABLE) as file:
            table = json.load(file)
        for name, parameters in table["offered"].items():
            machine.define(MODULE, name, parameters, "i", getattr(self, name))
        for name, parameters in table["refused"].items():
            machine.define(MODULE, name, parameters, "i", _refuse)
        machine.define(MODULE, "proc_exit", "i", "", self.proc_exit)

    def begin(self, log: Log) -> None:
        """A call begins that has this log."""
        self._log = log
        self._lines = {1: b"", 2: b""}

    def end(self) -> None:
        """The call is over: lines that have no end are entries too."""
        for fd, line in self._lines.items():
            if line:
                self._add(fd, line)

    # -- output --------------------------------------------------------------------------------------------------------

    def fd_write(self, fd: int, parts: int, count: int, written: int) -> int:
        if fd not in LEVELS:
            return BADF
        places = self._machine.read(parts, 8 * count) if count <= PARTS_MAX else None
        if places is None:
            return INVAL
        size = 0
        for address, length in struct.iter_unpack("<II", places):
            data = self._machine.read(address, length)
            if data is None:
                return FAULT
            size += length
            self._write(fd, data)
        self._store("<I", written, size)
        return SUCCESS

    def _write(self, fd: int, data: bytes) -> None:
        *lines, rest = data.split(b"\n") if not self._log.full else [data[:0]]
        for line in lines:
            self._add(fd, self._lines[fd] + line)
            self._lines[fd] = b""
        # What is beyond an entry's length would be cut off; nobody's memory need hold it.
        self._lines[fd] = (self._lines[fd] + rest)[: ENTRY_BYTES_MAX + 4]

    def _add(self, fd: int, line: bytes) -> None:
        self._log.add(line.decode("utf-8", "replace"), LEVELS[fd])
        if fd == STDERR and line.startswith(LAST_WORDS):
            self._machine.last_words = line.partition(b": ")[2].decode("utf-8", "replace")

    def proc_exit(self, code: int) -> NoReturn:
        self._machine.exit(code)

    # -- clocks and randomness -----------------------------------------------------------------------------------------

    def clock_time_get(self, clock: int, _precision: int, found: int) -> int:
        if clock not in (REALTIME, MONOTONIC):
            return INVAL
        return self._store("<Q", found, _now(clock))

    def clock_res_get(self, clock: int, found: int) -> int:
        return self._store("<Q", found, 1) if clock in (REALTIME, MONOTONIC) else INVAL

    def random_get(self, address: int, size: int) -> int:
        if address + size > self._machine.memory_bytes:
            return FAULT
        self._machine.write(address, os.urandom(size))
        return SUCCESS

    def poll_oneoff(self, wishes: int, events: int, count: int, happened: int) -> int:
        """Sleeps until the first of some times; a standard file is always ready."""
        data = self._machine.read(wishes, 48 * count) if 0 < count <= PARTS_MAX else None
        if data is None:
            return INVAL
        waits = [_read_wish(data[at : at + 48]) for at in range(0, len(data), 48)]
        soonest = min(wait for _, _, wait in waits)
        time.sleep(min(soonest / 1e9, self._machine.deadline.left_s))
        due = [(mark, kind) for mark, kind, wait in waits if wait <= soonest]
        self._machine.write(events, b"".join(struct.pack("<QHB21x", mark, SUCCESS, kind) for mark, kind in due))
        return self._store("<I", happened, len(due))

    def sched_yield(self) -> int:
        return SUCCESS

    # -- what is empty -------------------------------------------------------------------------------------------------

    def args_sizes_get(self, count: int, size: int) -> int:
        return self._store("<I", count, 0) or self._store("<I", size, 0)

    def args_get(self, _places: int, _texts: int) -> int:
        return SUCCESS

    environ_sizes_get = args_sizes_get
    environ_get = args_get

    def fd_read(self, fd: int, _parts: int, _count: int, read: int) -> int:
        return self._store("<I", read, 0) if fd == 0 else BADF

    def fd_close(self, fd: int) -> int:
        return SUCCESS if fd in STANDARD else BADF

    def fd_fdstat_get(self, fd: int, found: int) -> int:
        return self._store("<B23x", found, CHARACTER_DEVICE) if fd in STANDARD else BADF

    def fd_fdstat_set_flags(self, fd: int, _flags: int) -> int:
        return self.fd_close(fd)

    def _store(self, form: str, address: int, value: int) -> int:
        self._machine.write(address, struct.pack(form, value))
        return SUCCESS


def _refuse(*_arguments: int) -> int:
    return BADF


def _now(clock: int) -> int:
    return time.time_ns() if clock == REALTIME else time.monotonic_ns()


def _read_wish(data: bytes) -> tuple[int, int, int]:
    """A subscription: its mark, its kind, and the nanoseconds until it happens."""
    mark, kind, clock, moment, flags = struct.unpack("<QB7xIxxxxQxxxxxxxxH6x", data)
    if kind != CLOCK:
        return mark, kind, 0
    return mark, kind, max(0, moment - _now(clock)) if flags & ABSOLUTE else moment
