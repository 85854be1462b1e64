"""What is measured. Every scenario starts servers of its own, adds its figures to the results, and leaves nothing running."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles

from bench.load import Client, Load, run_wrk, start_wrk
from bench.report import Results
from bench.servers import (
    Spinney,
    asgi_echo,
    cgroup_of,
    node,
    node_echo,
    peak_bytes,
    proportional_bytes,
    wait_until,
)
from spinney.app import run_dir

SOURCES = {
    "nodejs22": "exports.handler = async (event) => event",
    "python311": "def handler(event, context):\n    return event",
}
EVENT = b'{"name":"World","n":1}'
BASELINE, NODE, PYTHON = "ASGI echo", "Spinney, Node", "Spinney, Python"
BASELINES = {BASELINE: asgi_echo, "Node echo": node_echo}
CONNECTIONS = (1, 32)
WARM_UP_S = 2
MB = 1 << 20


def warm(results: Results, seconds: float, rounds: int) -> None:
    """Throughput and latency of a trivial function beside the two echo servers, all in turn."""
    with ExitStack() as stack:
        urls = {name: stack.enter_context(start()).url() for name, start in BASELINES.items()}
        spinney = stack.enter_context(Spinney())
        for name, runtime in ((NODE, "nodejs22"), (PYTHON, "python311")):
            urls[name] = spinney.url(spinney.deploy(f"echo-{runtime}", SOURCES[runtime], runtime))
        for url in urls.values():
            run_wrk(url, CONNECTIONS[-1], WARM_UP_S)
        for connections in CONNECTIONS:
            runs: dict[str, list[Load]] = {name: [] for name in urls}
            for _ in range(rounds):
                for name, url in urls.items():
                    runs[name].append(run_wrk(url, connections, seconds))
            _judge(results, connections, runs, compare(results, connections, runs))
        _count_records(results, spinney)


def compare(results: Results, connections: int, runs: dict[str, list[Load]]) -> dict[str, float]:
    """Note the median of each server's runs; its throughput by that of the ASGI echo."""
    ratios = {}
    for name, loads in runs.items():
        middle = Load(*(median(values) for values in zip(*loads, strict=True)))
        ratios[name] = median(load.per_second / base.per_second for load, base in zip(loads, runs[BASELINE], strict=True))
        results.load(name, connections, middle, ratios[name])
    return ratios


def _judge(results: Results, connections: int, runs: dict[str, list[Load]], ratios: dict[str, float]) -> None:
    if connections == 1:
        added = median(load.p50_ms - base.p50_ms for load, base in zip(runs[NODE], runs[BASELINE], strict=True))
        results.at_most(0.25, "one connection: p50 over that of the ASGI echo", added, "ms")
    else:
        results.at_least(0.35, f"{connections} connections: throughput by that of the ASGI echo", ratios[NODE])
    failures = sum(load.failures for name in (NODE, PYTHON) for load in runs[name])
    results.at_most(0, f"{connections} connections: requests that failed", failures)


def _count_records(results: Results, spinney: Spinney) -> None:
    """Whether everything that was called under load is in the store after the server's orderly end."""
    wait_until(lambda: spinney.metric('spinney_sandboxes{state="busy"}') == [0], "the last calls")
    calls = sum(spinney.metric("spinney_calls_total"))
    spinney.stop()
    with sqlite3.connect(spinney.data_dir / "spinney.db") as database:
        # Histories are cut to their newest thousand while the load runs; the last one's number tells how many there were.
        (records,) = database.execute("SELECT max(seq) FROM executions").fetchone()
    results.figure("calls under load", calls)
    results.at_most(0, "calls under load without a record", calls - records)


def cold_by_stem(results: Results, samples: int = 100, pace_s: float = 0.2) -> None:
    """First calls of new functions, a stem being ready, each followed by calls of a warm function over the same connection."""
    cold: list[float] = []
    warm: list[float] = []
    with Spinney() as spinney:
        reference = spinney.deploy("reference", SOURCES["nodejs22"])
        for _ in range(200):
            _call(spinney.client, reference)
        for number in range(samples):
            path = spinney.deploy(f"cold-{number}", SOURCES["nodejs22"])
            time.sleep(pace_s)
            wait_until(lambda: min(spinney.metric("spinney_stems")) >= 1, "stems")
            cold.append(_call(spinney.client, path))
            warm += (_call(spinney.client, reference) for _ in range(5))
    usual = median(warm)
    results.figure("warm call, same client: p50", usual, "ms")
    results.figure("cold call by stem: p50", median(cold), "ms")
    results.figure("cold call by stem: p99", p99(cold), "ms")
    results.at_most(10, "cold call by stem: p50 over that of a warm one", median(cold) - usual, "ms")
    results.at_most(40, "cold call by stem: p99 over the p50 of a warm one", p99(cold) - usual, "ms")


def cold_from_nothing(results: Results, samples: int = 25) -> None:
    """First calls of new functions, nothing being ready, each beside a bare start of the same Node."""
    cold: list[float] = []
    bare: list[float] = []
    program = node()
    with Spinney(pool_stems_min=0, pool_stems_max=0) as spinney:
        for number in range(samples + 1):
            path = spinney.deploy(f"cold-{number}", SOURCES["nodejs22"])
            bare.append(_bare_start(program))
            cold.append(_call(spinney.client, path))
    del bare[0], cold[0]  # the first brings files into the page cache
    results.figure("node -e 0: p50", median(bare), "ms")
    results.figure("cold call from nothing: p50", median(cold), "ms")
    results.figure("cold call from nothing: p99", p99(cold), "ms")
    ratio = median(ours / theirs for ours, theirs in zip(cold, bare, strict=True))
    results.at_most(3, "cold call from nothing by node -e 0", ratio)


def _bare_start(program: str) -> float:
    began = time.perf_counter()
    pid = os.posix_spawn(program, [program, "-e", "0"], os.environ)
    _, status = os.waitpid(pid, 0)
    assert status == 0
    return (time.perf_counter() - began) * 1e3


def idle_memory(results: Results, count: int = 20) -> None:
    """What one warm sandbox holds while nobody calls it."""
    for runtime, source in SOURCES.items():
        with Spinney(pool_stems_min=0, pool_stems_max=0) as spinney:
            for number in range(count):
                _call(spinney.client, spinney.deploy(f"idle-{number}", source, runtime))
            counted = _settled_memory(spinney)
            shared = sum(map(proportional_bytes, spinney.sandboxed_processes()))
            results.figure(f"memory per idle warm sandbox, {runtime}: control group", counted / count / MB, "MB")
            results.figure(f"memory per idle warm sandbox, {runtime}: proportional set", shared / count / MB, "MB")
            results.figure(
                f"memory of the server beside {count} of them, {runtime}", proportional_bytes(spinney.process.pid) / MB, "MB"
            )


def _settled_memory(spinney: Spinney) -> float:
    """The server's own count of its sandboxes' memory, once two looks at it, further apart than its measurements, agree."""
    last = 0.0
    while True:
        now = sum(spinney.metric("spinney_sandbox_memory_bytes"))
        if abs(now - last) < 0.01 * now:
            return now
        last = now
        time.sleep(1.5)


def density(results: Results, count: int = 1000, clients: int = 8) -> None:
    """Many functions deployed and called once each."""
    with Spinney() as spinney, ThreadPoolExecutor(clients) as threads:
        peak = _Peak(spinney)
        began = time.perf_counter()
        paths = [spinney.deploy(f"many-{number}", SOURCES["nodejs22"]) for number in range(count)]
        deployed = time.perf_counter()
        statuses = Counter(threads.map(_Caller(spinney.port), paths))
        called = time.perf_counter()
        kernel, reported = peak.end()
        results.figure(f"{count} functions: deployed in", deployed - began, "s")
        results.figure(f"{count} functions: called in", called - deployed, "s")
        results.figure(f"{count} functions: sandboxes at the end", sum(spinney.metric("spinney_sandboxes")))
        results.figure(f"{count} functions: most memory, by the server", reported / MB, "MB")
        results.figure(f"{count} functions: memory budget", spinney.budget_bytes / MB, "MB")
        results.at_most(0, f"{count} functions: calls not answered 200", count - statuses[200])
        most = kernel / spinney.budget_bytes
        results.at_most(1, f"{count} functions: most memory, by the kernel, of the budget", most)


class _Caller:
    """Calls a path over the calling thread's own connection; the status."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._local = threading.local()

    def __call__(self, path: str) -> int:
        if not hasattr(self._local, "client"):
            self._local.client = Client(self._port)
        return int(self._local.client.request("POST", path, EVENT).status)


class _Peak:
    """Watches the memory of a server's sandboxes until ``end``."""

    def __init__(self, spinney: Spinney) -> None:
        self._spinney = spinney
        self._group: Path | None = None
        self._reported = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            self._reported = max(self._reported, sum(self._spinney.metric("spinney_sandbox_memory_bytes")))

    def end(self) -> tuple[int, float]:
        """The most by the kernel's count, of the control group above all sandboxes, and the most that the server told."""
        self._over.set()
        self._thread.join()
        groups = [group for pid in self._spinney.sandboxed_processes() if (group := cgroup_of(pid))]
        return max((peak_bytes(group.parent) for group in groups), default=0), self._reported


def drain(results: Results) -> None:
    """SIGTERM in the middle of the load: how long until the server is gone, and what is left of it."""
    with Spinney() as spinney:
        path = spinney.deploy("echo", SOURCES["nodejs22"])
        load = start_wrk(spinney.url(path), CONNECTIONS[-1], 20)
        try:
            wait_until(lambda: sum(spinney.metric("spinney_calls_total")) > 5000, "load")
            processes = spinney.sandboxed_processes()
            groups = {group for pid in processes if (group := cgroup_of(pid))}
            seconds, code = spinney.stop()
        finally:
            load.kill()
            load.communicate()
        left = [*(Path(f"/proc/{pid}") for pid in processes), *groups, run_dir(spinney.data_dir)]
        results.figure("drain: sandboxes' processes before", len(processes))
        results.figure("drain: from SIGTERM under load to the end", seconds, "s")
        results.at_most(0, "drain: exit code", abs(code))
        results.at_most(0, "drain: processes, control groups and directories left", sum(path.exists() for path in left))


def _call(client: Client, path: str) -> float:
    """One call; its milliseconds. RuntimeError unless it gave the event back."""
    answer = client.request("POST", path, EVENT)
    if answer.status != 200 or json.loads(answer.body)["body"] != json.loads(EVENT):
        raise RuntimeError(f"{path}: {answer.status} {answer.body!r}")
    return answer.ms


def p99(values: list[float]) -> float:
    """The 99th percentile."""
    return quantiles(values, n=100, method="inclusive")[98]
