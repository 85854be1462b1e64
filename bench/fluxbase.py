"""Fluxbase on Deno, beside the ASGI echo and beside the same function in a process per call."""

from __future__ import annotations

import json
import os
import subprocess
import time
import timeit
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from bench.load import Client, Load, run_wrk
from bench.report import Results
from bench.scenarios import BASELINE, CONNECTIONS, EVENT, WARM_UP_S, compare
from bench.servers import Spinney, asgi_echo, deno, wait_until
from spinney.clock import SystemClock
from spinney.core.limits import RateLimits

DENO = "Spinney, Fluxbase on Deno"
KEY = "admin-key-of-the-bench"
COUNTED = 1_000_000_000
"""A rate that nobody reaches: every call is counted, none refused."""
HANDLER = "const handler = (req) => JSON.parse(req.body)"
ALONE = HANDLER + ";console.log(JSON.stringify(handler({ body: await new Response(Deno.stdin.readable).text() })))"


class FluxbaseSpinney(Spinney):
    """A server whose functions are made and called by the admin key."""

    def __init__(self) -> None:
        super().__init__(admin_key=KEY, fluxbase_rate_invokes=COUNTED, fluxbase_rate_writes=0)
        self.headers = {"authorization": f"Bearer {KEY}"}

    def deploy(self, name: str, source: str, runtime: str = "deno") -> str:
        """Create a function; the path that invokes it."""
        function = json.dumps({"name": name, "code": source, "enabled": True}).encode()
        answer = self.client.request("POST", "/fluxbase/api/v1/functions", function, self.headers)
        if answer.status != 201:
            raise RuntimeError(f"creating {name}: {answer.status} {answer.body!r}")
        return f"/fluxbase/api/v1/functions/{name}/invoke"

    def call(self, client: Client, path: str) -> float:
        """One call; its milliseconds. RuntimeError unless it gave the event back."""
        answer = client.request("POST", path, EVENT, self.headers)
        if answer.status != 200 or json.loads(answer.body) != json.loads(EVENT):
            raise RuntimeError(f"{path}: {answer.status} {answer.body!r}")
        return answer.ms


def fluxbase(results: Results, seconds: float, rounds: int) -> None:
    """Warm throughput, a cold call, and what the same function costs as a process per call."""
    with ExitStack() as stack:
        echo = stack.enter_context(asgi_echo()).url()
        spinney = stack.enter_context(FluxbaseSpinney())
        path = spinney.deploy("echo", HANDLER)
        warm = _warm(results, echo, spinney, path, seconds, rounds)
        script = spinney.directory / "alone.js"
        script.write_text(ALONE)
        bare, spawned = _spawn(script, seconds)
        cold = _cold(spinney, path)
    results.at_most(15, "counting a request against a rate limit", _count_us(), "us")
    results.figure("deno run per call: requests/s", spawned)
    results.figure("deno run: p50", bare, "ms")
    results.figure("Fluxbase, cold call by stem: p50", cold, "ms")
    results.at_least(20, "Fluxbase, warm: throughput by that of deno run per call", warm / spawned)
    results.at_most(1, "Fluxbase, cold call by stem: p50 by that of deno run", cold / bare)


def _count_us(number: int = 500, repeat: int = 40) -> float:
    """Microseconds of processor time that one request's counting takes, in the quickest of many short runs."""
    limits = RateLimits(SystemClock())
    key = "0d0b4cb2-41f1-4b5f-8dce-cb3b2e2b8f11 1f3a8f1e-6a0c-4d2e-9f4e-1f0f6f7a7b11"
    spent = timeit.repeat(lambda: limits.hit("invokes", COUNTED, key), number=number, repeat=repeat, timer=time.thread_time)
    return min(spent) / number * 1e6


def _warm(results: Results, echo: str, spinney: FluxbaseSpinney, path: str, seconds: float, rounds: int) -> float:
    """Requests a second over many connections."""
    urls = {BASELINE: (echo, {}), DENO: (spinney.url(path), spinney.headers)}
    for url, headers in urls.values():
        run_wrk(url, CONNECTIONS[-1], WARM_UP_S, headers)
    runs: dict[str, list[Load]] = {}
    for connections in CONNECTIONS:
        runs = {name: [] for name in urls}
        for _ in range(rounds):
            for name, (url, headers) in urls.items():
                runs[name].append(run_wrk(url, connections, seconds, headers))
        ratio = compare(results, connections, runs)[DENO]
        failures = sum(load.failures for load in runs[DENO])
        results.at_most(0, f"Fluxbase, {connections} connections: requests that failed", failures)
    results.at_least(0.3, f"Fluxbase, {CONNECTIONS[-1]} connections: throughput by that of the ASGI echo", ratio)
    return median(load.per_second for load in runs[DENO])


def _spawn(script: Path, seconds: float) -> tuple[float, float]:
    """A process per call: milliseconds of one at a time, and how many a second as many at a time as there are processors."""
    environment = {**os.environ, "DENO_DIR": str(script.parent / "deno"), "DENO_NO_UPDATE_CHECK": "1"}

    def spawn() -> float:
        began = time.perf_counter()
        done = subprocess.run([deno(), "run", "--no-config", str(script)], input=EVENT, capture_output=True, env=environment)
        if done.returncode != 0 or json.loads(done.stdout) != json.loads(EVENT):
            raise RuntimeError(f"deno run: {done.stderr!r}")
        return (time.perf_counter() - began) * 1e3

    spawn()
    alone = median(spawn() for _ in range(20))
    began = time.perf_counter()

    def spawn_until_over(_: int) -> int:
        count = 0
        while time.perf_counter() - began < seconds:
            spawn()
            count += 1
        return count

    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as threads:
        total = sum(threads.map(spawn_until_over, range(workers)))
    return alone, total / (time.perf_counter() - began)


def _cold(spinney: FluxbaseSpinney, warm_path: str, samples: int = 50, pace_s: float = 0.2) -> float:
    """First calls of new functions, a stem being ready: the median, in milliseconds."""
    cold = []
    with Client(spinney.port) as client:
        for number in range(samples):
            path = spinney.deploy(f"cold-{number}", HANDLER)
            spinney.call(client, warm_path)
            time.sleep(pace_s)
            wait_until(lambda: min(spinney.metric("spinney_stems")) >= 1, "stems")
            cold.append(spinney.call(client, path))
    return median(cold)
