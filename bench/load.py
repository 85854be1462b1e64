"""Load: wrk for throughput, and a client for one call at a time."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self

NO_HEADERS: Mapping[str, str] = {}
SCRIPT = Path(__file__).with_name("post.lua")


class Load(NamedTuple):
    """What wrk saw. Times in milliseconds; ``failures`` counts everything but answers below 400."""

    per_second: float
    p50_ms: float
    p99_ms: float
    requests: int
    failures: int


def require_wrk() -> None:
    """RuntimeError that says how to get wrk when it is missing."""
    if shutil.which("wrk") is None:
        raise RuntimeError("wrk is not installed: apt-get install wrk")


def start_wrk(
    url: str, connections: int, seconds: float, headers: Mapping[str, str] = NO_HEADERS, body: str | None = None
) -> subprocess.Popen[str]:
    """POST a body, ``post.lua``'s own unless another is given, to ``url`` over so many connections."""
    more = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(SCRIPT), *more, url]
    if body is not None:
        argv += ["--", body]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run_wrk(url: str, connections: int, seconds: float, headers: Mapping[str, str] = NO_HEADERS, body: str | None = None) -> Load:
    """Run wrk to its end. RuntimeError when it could not."""
    process = start_wrk(url, connections, seconds, headers, body)
    output, _ = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"wrk: {output}")
    figures = json.loads(output.strip().splitlines()[-1])
    return Load(
        figures["requests"] / figures["duration_us"] * 1e6,
        figures["p50_us"] / 1e3,
        figures["p99_us"] / 1e3,
        figures["requests"],
        figures["failures"],
    )


class Answer(NamedTuple):
    """An HTTP answer, and the milliseconds from the first byte sent to the last one received."""

    status: int
    body: bytes
    ms: float


class Client:
    """One connection that is kept, one request at a time."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=90)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def request(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = NO_HEADERS) -> Answer:
        began = time.perf_counter()
        self._connection.request(method, path, body, dict(headers))
        response = self._connection.getresponse()
        answer = response.read()
        return Answer(response.status, answer, (time.perf_counter() - began) * 1e3)
