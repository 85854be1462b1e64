"""Running a compiler's programs, and what they may end with."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence

TEXT_BYTES = 65536
CHUNK_BYTES = 65536
OUT_OF_MEMORY = 128 + signal.SIGKILL
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


class Refused(Exception):
    """The source cannot be compiled; the text tells its author why."""


class Crashed(Exception):
    """The compiler itself has failed; the text is the reason."""


def run(arguments: Sequence[str], directory: str, **environment: str) -> tuple[int, str]:
    """The exit code of a program, and the beginning of what it wrote to standard output and error. Raises Crashed.

    Ends this process when the program was killed: nobody but the kernel does that, for want of memory, and the host knows.
    """
    process = subprocess.Popen(
        arguments,
        cwd=directory,
        env={**ENVIRONMENT, "TMPDIR": directory, "HOME": directory, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    text = b""
    assert process.stdout is not None
    with process.stdout as output:
        while part := output.read(CHUNK_BYTES):
            text += part[: TEXT_BYTES - len(text)]
    code = process.wait()
    if code == -signal.SIGKILL:
        os._exit(OUT_OF_MEMORY)
    if code < 0:
        raise Crashed(signal.Signals(-code).name)
    return code, text.decode("utf-8", "replace")
