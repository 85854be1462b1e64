"""Lunar on LuaJIT: beside the ASGI echo, a counter under load, and what a fresh state costs."""

from __future__ import annotations

import json
import sys
import timeit
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.load import Client, Load, run_wrk
from bench.report import Results
from bench.scenarios import BASELINE, CONNECTIONS, EVENT, WARM_UP_S, compare
from bench.servers import Spinney, asgi_echo
from spinney.runtimes import lua as runtime

LUNAR = "Spinney, Lunar"
KEY = "admin-key-of-the-bench"
ECHO = "function handler(ctx, event)\n  return { body = json.encode(json.decode(event.body)) }\nend\n"
COUNTER = "function handler(ctx, event)\n  return { body = tostring(kv.incr('n')) }\nend\n"
SWAPPER = """function handler(ctx, event)
  repeat
    local now = kv.get('n')
  until kv.cas('n', now, tostring((now or 0) + 1))
  return { body = '0' }
end
"""
CALLS = 10_000
MEMORY_BYTES = 128 << 20


class LunarSpinney(Spinney):
    """A server whose functions are made by the admin key and called by anybody."""

    def __init__(self) -> None:
        super().__init__(admin_key=KEY)
        self.headers = {"authorization": f"Bearer {KEY}"}

    def deploy(self, name: str, source: str, runtime: str = "lua") -> str:
        """Create a function; the path that runs it."""
        body = json.dumps({"name": name, "code": source}).encode()
        answer = self.client.request("POST", "/lunar/api/functions", body, self.headers)
        if answer.status != 200:
            raise RuntimeError(f"creating {name}: {answer.status} {answer.body!r}")
        return f"/lunar/fn/{json.loads(answer.body)['id']}"

    def entries(self, path: str) -> dict[str, str]:
        """What a function has kept."""
        answer = self.client.request("GET", f"/lunar/api/functions/{path.rpartition('/')[2]}", b"", self.headers)
        found: dict[str, str] = json.loads(answer.body)["scoped_data"]
        return found


def lunar(results: Results, seconds: float, rounds: int) -> None:
    """Warm throughput, ten thousand changes of one entry, a fresh state."""
    with ExitStack() as stack:
        echo = stack.enter_context(asgi_echo()).url()
        spinney = stack.enter_context(LunarSpinney())
        _warm(results, echo, spinney, seconds, rounds)
        for name, source in (("kv.incr", COUNTER), ("kv.get and kv.cas", SWAPPER)):
            _count(results, spinney, name, source)
    results.at_most(100, "a fresh Lua state with the whole library, and its end", _state_us(), "us")


def _warm(results: Results, echo: str, spinney: LunarSpinney, seconds: float, rounds: int) -> None:
    path = spinney.deploy("echo", ECHO)
    answer = spinney.client.request("POST", path, EVENT)
    if answer.status != 200 or json.loads(answer.body) != json.loads(EVENT):
        raise RuntimeError(f"{path}: {answer.status} {answer.body!r}")
    urls = {BASELINE: echo, LUNAR: spinney.url(path)}
    for url in urls.values():
        run_wrk(url, CONNECTIONS[-1], WARM_UP_S)
    for connections in CONNECTIONS:
        runs: dict[str, list[Load]] = {name: [] for name in urls}
        for _ in range(rounds):
            for name, url in urls.items():
                runs[name].append(run_wrk(url, connections, seconds))
        ratio = compare(results, connections, runs)[LUNAR]
        failures = sum(load.failures for load in runs[LUNAR])
        results.at_most(0, f"Lunar, {connections} connections: requests that failed", failures)
    results.at_least(0.3, f"Lunar, {CONNECTIONS[-1]} connections: throughput by that of the ASGI echo", ratio)


def _count(results: Results, spinney: LunarSpinney, name: str, source: str) -> None:
    """Call a function that changes one entry from many connections; none of its changes may be lost."""
    path = spinney.deploy(name, source)
    connections = CONNECTIONS[-1]

    def work(number: int) -> int:
        with Client(spinney.port) as client:
            calls = CALLS // connections + (number < CALLS % connections)
            return sum(client.request("POST", path, b"").status == 200 for _ in range(calls))

    began = timeit.default_timer()
    with ThreadPoolExecutor(connections) as threads:
        answered = sum(threads.map(work, range(connections)))
    results.figure(f"{name}, {connections} connections: calls/s", CALLS / (timeit.default_timer() - began))
    results.at_most(0, f"{name}: calls not answered 200", CALLS - answered)
    results.at_most(0, f"{name}: changes lost", CALLS - int(spinney.entries(path)["n"]))


def _state_us(number: int = 200, repeat: int = 20) -> float:
    """Microseconds from nothing to a state that is ready to run a program, and until it is gone, as in the guest."""
    guest = Path(runtime.__file__).parent / "guests" / "lua"
    sys.path.insert(0, str(guest))
    try:
        from spinney_lua import states  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(guest))
    library = states.compile_library()
    program, _ = states.compile_chunk(ECHO.encode(), b"=<string>")

    def make() -> Any:
        states.State(library, program, MEMORY_BYTES, lambda name, *arguments: None)

    return min(timeit.repeat(make, number=number, repeat=repeat)) / number * 1e6
