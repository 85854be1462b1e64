"""NIL: executions beside the ASGI echo, first executions, and how builds and executions get along."""

from __future__ import annotations

import json
import threading
import time
from contextlib import ExitStack
from statistics import median

from bench.load import Client, Load, run_wrk
from bench.report import Results
from bench.scenarios import BASELINE, CONNECTIONS, WARM_UP_S, compare, p99
from bench.servers import Spinney, asgi_echo, wait_until

NIL = "Spinney, NIL"
INPUT = {"name": "World", "n": 1}
BODY = json.dumps({"input": INPUT}).encode()
JSON = {"content-type": "application/json"}
ECHO = "export function handle(input: string): string { return input; }"
QUEUED = 60
BUILD_S = 120.0


class NilSpinney(Spinney):
    """A server of functions that are compiled."""

    def submit(self, source: str) -> str:
        """Register a function; its id."""
        fields = json.dumps({"name": "f", "language": "assemblyscript", "source": source}).encode()
        answer = self.client.request("POST", "/nil/functions", fields, JSON)
        if answer.status != 201:
            raise RuntimeError(f"registering a function: {answer.status} {answer.body!r}")
        return str(json.loads(answer.body)["id"])

    def deploy(self, name: str, source: str = ECHO, runtime: str = "") -> str:
        """Register a function and wait until it is ready; the path that executes it."""
        id = self.submit(f"{source}// {name}")
        wait_until(lambda: self.statuses().get(id) == "READY", f"{name} to be built", BUILD_S)
        return f"/nil/functions/{id}/execute"

    def statuses(self, client: Client | None = None) -> dict[str, str]:
        """The status of every function by its id, in the order in which they were registered."""
        listed = json.loads((client or self.client).request("GET", "/nil/functions").body)
        return {item["id"]: item["status"] for item in reversed(listed)}

    def execute(self, client: Client, path: str) -> float:
        """One execution; its milliseconds. RuntimeError unless it gave the input back."""
        answer = client.request("POST", path, BODY, JSON)
        if answer.status != 200 or json.loads(answer.body)["output"] != INPUT:
            raise RuntimeError(f"{path}: {answer.status} {answer.body!r}")
        return answer.ms


def nil(results: Results, seconds: float, rounds: int) -> None:
    """Warm throughput, first executions, builds alone, and many builds beside executions."""
    with ExitStack() as stack:
        echo = stack.enter_context(asgi_echo()).url()
        spinney = stack.enter_context(NilSpinney())
        path = spinney.deploy("echo")
        _warm(results, echo, spinney, path, seconds, rounds)
        _first(results, spinney)
        _builds(results, spinney)
        _queue(results, spinney, path)


def _warm(results: Results, echo: str, spinney: NilSpinney, path: str, seconds: float, rounds: int) -> None:
    """Throughput and latency of an echo function beside the ASGI echo."""
    urls = {BASELINE: echo, NIL: spinney.url(path)}
    for url in urls.values():
        run_wrk(url, CONNECTIONS[-1], WARM_UP_S, body=BODY.decode())
    for connections in CONNECTIONS:
        runs: dict[str, list[Load]] = {name: [] for name in urls}
        for _ in range(rounds):
            for name, url in urls.items():
                runs[name].append(run_wrk(url, connections, seconds, body=BODY.decode()))
        ratio = compare(results, connections, runs)[NIL]
        results.at_most(0, f"NIL, {connections} connections: requests that failed", sum(load.failures for load in runs[NIL]))
    results.at_least(0.25, f"NIL, {CONNECTIONS[-1]} connections: throughput by that of the ASGI echo", ratio)


def _first(results: Results, spinney: NilSpinney, samples: int = 40, pace_s: float = 0.2) -> None:
    """First executions of functions that have just become ready, a stem being there."""
    first = []
    for number in range(samples):
        path = spinney.deploy(f"first {number % 4}")  # most are known already, so that this takes no minutes
        time.sleep(pace_s)
        wait_until(lambda: min(spinney.metric("spinney_stems")) >= 1, "stems")
        first.append(spinney.execute(spinney.client, path))
    results.figure("NIL, first execution: p99", p99(first), "ms")
    results.at_most(15, "NIL, first execution: p50", median(first), "ms")


def _builds(results: Results, spinney: NilSpinney, samples: int = 12) -> None:
    """From a new source to READY, the compiler being warm and nothing else going on."""
    took = []
    for number in range(samples):
        began = time.perf_counter()
        id = spinney.submit(f"{ECHO}// build {number}")
        wait_until(lambda id=id: spinney.statuses().get(id) == "READY", "a build", BUILD_S)  # type: ignore[misc]
        took.append(time.perf_counter() - began)
    results.at_most(1, "NIL, from POST to READY, warm: p50", median(took), "s")
    results.figure("NIL, from POST to READY, warm: longest", max(took), "s")


class _Watch:
    """Looks at the order in which functions are built, until all are."""

    def __init__(self, spinney: NilSpinney, ids: list[str]) -> None:
        self._spinney = spinney
        self._ids = ids
        self.out_of_order = 0
        self.statuses: list[str] = []
        self.over = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        with Client(self._spinney.port) as client:
            while not self.over.is_set():
                statuses = self._spinney.statuses(client)
                self.statuses = [statuses[id] for id in self._ids]
                begun = [status != "PENDING" for status in self.statuses]
                self.out_of_order += begun != sorted(begun, reverse=True)
                if not {"PENDING", "COMPILING"} & set(self.statuses):
                    self.over.set()
                time.sleep(0.05)


def _queue(results: Results, spinney: NilSpinney, path: str, calls: int = 2000) -> None:
    """Executions one after the other, alone and while many builds are queued."""
    with Client(spinney.port) as client:
        for _ in range(calls // 4):
            spinney.execute(client, path)
        alone = [spinney.execute(client, path) for _ in range(calls)]
        began = time.perf_counter()
        watch = _Watch(spinney, [spinney.submit(f"{ECHO}// queued {number}") for number in range(QUEUED)])
        beside = []
        while not watch.over.is_set() and time.perf_counter() - began < BUILD_S:
            beside.append(spinney.execute(client, path))
        took = time.perf_counter() - began
    watch.over.set()
    results.figure(f"NIL, {QUEUED} builds queued at once: all made in", took, "s")
    results.figure("NIL, execution alone: p99", p99(alone), "ms")
    results.figure(f"NIL, execution beside {QUEUED} builds: p99", p99(beside), "ms")
    results.at_most(2, f"NIL, execution beside {QUEUED} builds: p99 by that alone", p99(beside) / p99(alone))
    results.at_most(0, f"NIL, {QUEUED} builds: not READY at the end", QUEUED - watch.statuses.count("READY"))
    results.at_most(0, f"NIL, {QUEUED} builds: times that a later one was seen begun before an earlier", watch.out_of_order)
