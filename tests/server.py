"""A real Spinney server for black-box tests: its own process, port and data directory."""

from __future__ import annotations

import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.processes import refuse_orphans

COMMAND = [sys.executable, "-m", "spinney"]
QUIET = {"SPINNEY_BUILDS_WARM": "false"}
"""Most servers here compile nothing, and a compiler that warms up takes seconds of processor time from all beside it."""
START_S = 60.0
STOP_S = 40.0


def wait_until(condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    """Poll until ``condition()`` is true; AssertionError naming ``what`` when it never is."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain: {what}"
        time.sleep(0.02)


def free_port() -> int:
    """A port nobody listens on, below the range from which the kernel gives out ports to clients."""
    for port in random.SystemRandom().sample(range(20000, 32000), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port between 20000 and 32000")


class Server:
    """``spinney serve`` as a child process. Usable as a context manager; may be stopped, killed and started again."""

    def __init__(
        self,
        data_dir: Path,
        *flags: str,
        host: str = "127.0.0.1",
        env: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        """``flags`` go behind ``spinney serve``, ``env`` over this process's environment, ``prefix`` before the command."""
        self.data_dir = data_dir
        self.host = host
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._flags = flags
        self._prefix = prefix
        self._log_path = data_dir.with_name(data_dir.name + ".log")
        self._process: subprocess.Popen[bytes] | None = None
        self._left_behind = False
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SPINNEY_")}
        self.environment = {**clean, **QUIET, **(env or {})}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        """Everything the server has printed so far."""
        return self._log_path.read_text(errors="replace") if self._log_path.exists() else ""

    def start(self) -> None:
        """Start the process and wait until it says that it is healthy."""
        assert self._process is None, "already running"
        serve = ["serve", "--host", self.host, "--port", str(self.port), "--data-dir", str(self.data_dir)]
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._prefix, *COMMAND, *serve, *self._flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
            )
        self._left_behind = False
        wait_until(self._healthy_or_dead, f"/healthz\n{self.log()}", START_S)
        if self._process.poll() is not None:
            code, self._process = self._process.returncode, None
            raise AssertionError(f"the server ended with {code} instead of serving:\n{self.log()}")

    def _healthy_or_dead(self) -> bool:
        assert self._process is not None
        return self._process.poll() is not None or self.healthy()

    def healthy(self) -> bool:
        """Whether /healthz answers 200."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def terminate(self) -> None:
        """Ask for an orderly end and return at once; ``stop`` waits for it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """SIGTERM, then the exit code."""
        self.terminate()
        return self.wait()

    def wait(self) -> int:
        """The exit code of a server that was asked to end."""
        process, self._process = self._process, None
        assert process is not None
        try:
            return process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            self._left_behind = True
            raise AssertionError(f"the server did not end within {STOP_S:g} s of SIGTERM:\n{self.log()}") from None

    def kill(self) -> None:
        """SIGKILL, as a crash or a power cut would."""
        refuse_orphans()
        process, self._process = self._process, None
        assert process is not None
        process.kill()
        process.wait()
        self._left_behind = True

    def restart_after_kill(self) -> None:
        self.kill()
        self.start()

    def close(self) -> None:
        """Stop, if running. What a killed server left behind is removed as the product does it: by the next start."""
        if self._process is None and self._left_behind:
            self.start()
        if self._process is not None:
            code = self.stop()
            assert code == 0, f"exit code {code} after SIGTERM:\n{self.log()}"

    def token(self, account: str | None = None, name: str = "test") -> str:
        """A new bearer token, made by the command line."""
        return self._tokens("create", "--name", name, *(["--account", account] if account else [])).split()[-1]

    def revoke(self, token: str) -> None:
        """Make a token, given by its name, useless."""
        self._tokens("revoke", token)

    def _tokens(self, *arguments: str) -> str:
        command = [*COMMAND, "token", *arguments, "--data-dir", str(self.data_dir)]
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout
