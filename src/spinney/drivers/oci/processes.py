"""Processes of the host that belong to sandboxes: started without fork, watched through pidfds, reaped by the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import signal
import time
from collections.abc import Mapping, Sequence

PR_SET_CHILD_SUBREAPER = 36
SYS_PIDFD_GETFD = 438
"""The same on every architecture (Linux 5.6); neither Python nor older C libraries have a function for it."""
FIRST_FREE_FD = 64
"""Descriptors are moved here before a spawn, so that no ``dup2`` onto a low number destroys a later source."""

SPAWN_FLAGS = 0x04 | 0x08 | 0x80
"""POSIX_SPAWN_SETSIGDEF, SETSIGMASK, SETSID."""

ROOM = 1024
"""More bytes than posix_spawnattr_t (336 in glibc), posix_spawn_file_actions_t (80) or sigset_t (128) takes."""

_libc = ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """Make orphans of our children our own children: a detached runtime leaves the sandbox's first process to us."""
    if _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def take_descriptor(pid: int, number: int) -> int:
    """A descriptor of our own for what a process of a sandbox has open as ``number``. Raises OSError."""
    process = os.pidfd_open(pid)
    try:
        taken = int(_libc.syscall(SYS_PIDFD_GETFD, process, number, 0))
        if taken < 0:
            raise OSError(ctypes.get_errno(), "pidfd_getfd")
        return taken
    finally:
        os.close(process)


def be_patient() -> None:
    """For the threads that start sandboxes: everything that they start inherits this scheduling policy.

    A guest that gets work then waits for a free processor instead of pushing the server off its own; with 32 callers on two
    processors that is a fifth more calls.
    """
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def spawn(argv: Sequence[str], descriptors: Sequence[int], environment: Mapping[str, str]) -> int:
    """Start a program whose descriptors 0, 1, 2... are the given ones; the pid. For a thread: returns when it has been loaded.

    The C function and not os.posix_spawn, which keeps every other thread of this process waiting for that (over 1 ms for runc). A
    session of its own keeps a Ctrl-C on the server's terminal away from it. Signals that Python ignores are put back: an ignored
    SIGPIPE would be inherited by everything that runs in the sandbox.
    """
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE_FD) for fd in descriptors]
    actions, attributes, pid = ctypes.create_string_buffer(ROOM), ctypes.create_string_buffer(ROOM), ctypes.c_int()
    signals = ctypes.create_string_buffer(ROOM)
    _libc.posix_spawn_file_actions_init(actions)
    _libc.posix_spawnattr_init(attributes)
    try:
        for number, fd in enumerate(moved):
            _libc.posix_spawn_file_actions_adddup2(actions, fd, number)
        _libc.sigemptyset(signals)
        _libc.posix_spawnattr_setsigmask(attributes, signals)
        for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
            _libc.sigaddset(signals, ignored)
        _libc.posix_spawnattr_setsigdefault(attributes, signals)
        _libc.posix_spawnattr_setflags(attributes, SPAWN_FLAGS)
        error = _libc.posix_spawn(
            ctypes.byref(pid),
            os.fsencode(argv[0]),
            actions,
            attributes,
            _strings(argv),
            _strings([f"{name}={value}" for name, value in environment.items()]),
        )
    finally:
        _libc.posix_spawn_file_actions_destroy(actions)
        _libc.posix_spawnattr_destroy(attributes)
        for fd in moved:
            os.close(fd)
    if error:
        raise OSError(error, os.strerror(error))
    return pid.value


def _strings(values: Sequence[str]) -> ctypes.Array[ctypes.c_char_p]:
    """A NULL-terminated array, as exec takes them."""
    return (ctypes.c_char_p * (len(values) + 1))(*(os.fsencode(value) for value in values), None)


def reap_group(leader: int, timeout_s: float) -> None:
    """Reap what a dead process left to us of its group: halves of a runtime that failed. Blocking."""
    deadline = time.monotonic() + timeout_s
    with contextlib.suppress(ChildProcessError):  # there are none (any more)
        while time.monotonic() < deadline:
            if os.waitid(os.P_PGID, leader, os.WEXITED | os.WNOHANG) is None:
                time.sleep(0.001)


class Child:
    """A process whose parent we are. The loop reaps it the moment it ends; ``exit_code`` is 128 + signal for signals."""

    def __init__(self, pid: int) -> None:
        """Raises ChildProcessError when ``pid`` is not a child of ours (it has ended and been reaped already)."""
        self.pid = pid
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        try:
            self._pidfd = os.pidfd_open(pid)
        except ProcessLookupError as error:
            raise ChildProcessError(error.errno, "no such child") from error
        try:
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            os.close(self._pidfd)
            raise
        self._loop.add_reader(self._pidfd, self._reap)

    @property
    def exit_code(self) -> int | None:
        return self._ended.result() if self._ended.done() else None

    def _reap(self) -> None:
        result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        if result is None:
            return
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        code = result.si_status if result.si_code == os.CLD_EXITED else 128 + result.si_status
        self._ended.set_result(code)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Signal it; nothing happens when it has ended."""
        if not self._ended.done():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    async def wait(self, timeout_s: float | None = None) -> int | None:
        """The exit code, or None when ``timeout_s`` passed first."""
        if not self._ended.done():
            await asyncio.wait((self._ended,), timeout=timeout_s)
        return self.exit_code
