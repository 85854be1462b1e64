"""The processes that are measured: started, found by the address they print, stopped, and looked at from outside."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from bench.load import Client
from spinney.runtimes.install import find

START_S = 60.0
STOP_S = 60.0
ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)")
BUDGET = re.compile(r"(\d+) MB for sandboxes")
CGROUPS = Path("/sys/fs/cgroup")


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    """The first true value of ``condition()``; RuntimeError naming ``what`` when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.01)
    return value


class Server:
    """A process that prints its own address. A context manager: stopped at the end, its files removed."""

    def __init__(self, argv: list[str], environment: Mapping[str, str]) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="spinney-bench-"))
        self._log = self.directory / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [part.format(directory=self.directory) for part in argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )
        try:
            self.port = int(wait_until(self._address, f"an address from {argv[:3]}", START_S)[1])
        except BaseException as error:
            self.close()
            raise RuntimeError(f"{error}\n{self.log()[-2000:]}") from error

    def _address(self) -> re.Match[str] | None:
        if self.process.poll() is not None:
            raise RuntimeError(f"the server ended with {self.process.returncode}")
        return ADDRESS.search(self.log())

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def stop(self) -> tuple[float, int]:
        """SIGTERM; the seconds until the process was gone, and its exit code."""
        began = time.perf_counter()
        self.process.terminate()
        code = self.process.wait(STOP_S)
        return time.perf_counter() - began, code

    def close(self) -> None:
        if self.process.poll() is None:
            self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def asgi_echo() -> Server:
    return Server([sys.executable, str(Path(__file__).with_name("echo.py"))], os.environ)


def node_echo() -> Server:
    return Server([node(), str(Path(__file__).with_name("echo.js"))], os.environ)


def node() -> str:
    """The Node that functions of runtime nodejs22 run in."""
    program = find("node22")
    if program is None:
        raise RuntimeError("Node 22 is not installed: make setup")
    return str(program)


def deno() -> str:
    """The Deno that functions of Fluxbase run on."""
    program = find("deno")
    if program is None:
        raise RuntimeError("Deno is not installed: make setup")
    return str(program)


class Spinney(Server):
    """A fresh server with its own data directory. ``settings`` are environment variables without their prefix."""

    def __init__(self, **settings: object) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SPINNEY_")}
        clean |= {f"SPINNEY_{name.upper()}": str(value) for name, value in settings.items()}
        argv = [sys.executable, "-m", "spinney", "serve", "--port", "0", "--data-dir", "{directory}/data"]
        super().__init__(argv, clean)
        self.client = Client(self.port)

    @property
    def data_dir(self) -> Path:
        return self.directory / "data"

    @property
    def budget_bytes(self) -> int:
        """What the server says that its sandboxes may use together."""
        found = BUDGET.search(self.log())
        assert found is not None
        return int(found[1]) << 20

    def deploy(self, name: str, source: str, runtime: str = "nodejs22") -> str:
        """Create a function; the path that invokes it."""
        function = {"name": name, "runtime": runtime, "handler": "index.handler", "code": source}
        answer = self.client.request("POST", "/impuls/api/v1/functions", json.dumps(function).encode())
        if answer.status != 201:
            raise RuntimeError(f"creating {name}: {answer.status} {answer.body!r}")
        return f"/impuls/api/v1/functions/{name}/invoke"

    def metric(self, name: str) -> list[float]:
        """The values of a figure of /metrics: of every set of labels, or of one when ``name`` ends with it."""
        with Client(self.port) as client:
            text = client.request("GET", "/metrics").body.decode()
        return [float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]

    def sandboxed_processes(self) -> list[int]:
        """Every process below the server's own."""
        children: dict[int, list[int]] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(stat.read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(stat.parent.name))
        found: list[int] = []
        todo = [self.process.pid]
        while todo:
            below = children.get(todo.pop(), [])
            found += below
            todo += below
        return found


def proportional_bytes(pid: int) -> int:
    """Memory of a process, pages that it shares with others divided among them; 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) << 10 if found else 0


def cgroup_of(pid: int) -> Path | None:
    """The control group that counts a process's memory."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return CGROUPS / "memory" / path.lstrip("/")
    unified = CGROUPS / "unified" if (CGROUPS / "unified").is_dir() else CGROUPS
    return next((unified / line[3:].lstrip("/") for line in lines if line.startswith("0::")), None)


def peak_bytes(cgroup: Path) -> int:
    """The most memory a control group and those below it ever used, by the kernel's count; 0 when it does not tell."""
    for name in ("memory.max_usage_in_bytes", "memory.peak"):
        if (cgroup / name).exists():
            return int((cgroup / name).read_text())
    return 0
