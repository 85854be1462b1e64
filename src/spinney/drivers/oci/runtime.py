"""The OCI runtime as a program: its command lines.

What it keeps of a sandbox, a state directory and control groups, is removed without it: that saves a process for each.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from spinney.drivers.oci.processes import spawn
from spinney.drivers.oci.settings import SYSTEM_PATH

OOM_SCORE = 500
"""When the whole machine runs out of memory, sandboxes go before the server.

Set from outside and by root on the runtime, which hands it down, it is also the least that a guest can set for itself.
"""


class OciRuntime:
    """``binary`` is an absolute path, ``state`` the directory given as ``--root``."""

    def __init__(self, binary: str, state: Path) -> None:
        self.name = Path(binary).name
        self.binary = binary
        self._state = state

    def _spawn(self, log: Path, arguments: Sequence[str], descriptors: Sequence[int]) -> int:
        argv = [self.binary, "--root", str(self._state), "--log", str(log), *arguments]
        pid = spawn(argv, descriptors, {"PATH": SYSTEM_PATH})
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/oom_score_adj").write_text(str(OOM_SCORE))
        return pid

    def run(self, name: str, bundle: Path, channel: int, stdout: int, stderr: int) -> int:
        """Start a detached sandbox with the guest channel as its descriptor 3; the pid of the runtime, which ends soon."""
        arguments = ("run", "--detach", "--preserve-fds", "1", "--pid-file", str(bundle / "pid"), "--bundle", str(bundle), name)
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return self._spawn(bundle / "log", arguments, (null, stdout, stderr, channel))
        finally:
            os.close(null)

    def execute(self, name: str, process: Path, descriptors: tuple[int, int, int], console: Path | None) -> int:
        """Start one more process, described by the file ``process``, detached; the pid of the runtime, which ends soon."""
        arguments = ["exec", "--detach", "--process", str(process), "--pid-file", f"{process}.pid"]
        if console is not None:
            arguments += ["--tty", "--console-socket", str(console)]
        return self._spawn(Path(f"{process}.log"), (*arguments, name), descriptors)

    def is_starting(self, command_line: bytes, bundle: Path) -> bool:
        """Whether a process with this command line (as in /proc) is a runtime at work on a bundle."""
        arguments = command_line.split(b"\0")
        return os.fsencode(self._state) in arguments and os.fsencode(bundle) in arguments
