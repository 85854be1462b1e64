"""Many at once, changes during a run, callers that leave, restarts (contract 3.9, 5)."""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import httpx2
import pytest

from tests.api import together, unique
from tests.conftest import ADMIN_KEY
from tests.dialects.fluxbase.api import Api, Function, refused
from tests.server import Server, wait_until
from tests.wire import Wire

SPAN = "const start = Date.now(); await new Promise((go) => setTimeout(go, 2500)); return [start, Date.now()]"
KEY = {"SPINNEY_ADMIN_KEY": ADMIN_KEY}
UNKNOWN = "Function not found or disabled"
STOPPED = "The server is shutting down"


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as threads:
        yield threads


def begin(pool: ThreadPoolExecutor, server: Server, function: Function, ms: int, value: str = "old") -> Future[httpx2.Response]:
    """Start a SLOW call and return once its handler runs."""
    running = busy(server)
    call = pool.submit(function.invoke, json.dumps({"ms": ms, "value": value}))
    wait_until(lambda: call.done() or busy(server) > running, "the handler runs")
    assert not call.done(), call.result().text
    return call


SLOW = "const { ms, value } = await req.json(); await new Promise((go) => setTimeout(go, ms)); return value"


def busy(server: Server) -> float:
    """Sandboxes that run a call."""
    metrics = httpx2.get(f"{server.url}/metrics", trust_env=False).text
    return float(next(line for line in metrics.splitlines() if 'state="busy"' in line).split()[-1])


def test_sixteen_run_at_once(api: Api) -> None:
    function = api.handler(SPAN)
    spans = together(lambda _: function(), range(16))
    assert max(start for start, _ in spans) < min(end for _, end in spans)


def test_fifty_wait_for_their_own_answers(api: Api) -> None:
    function = api.handler("console.log(req.body); await new Promise((go) => setTimeout(go, 20)); return req.body")

    def call(number: int) -> None:
        response = function.invoke(str(number))
        assert response.json() == str(number)
        assert function.row(response.headers["x-execution-id"])["logs"] == f"console.log: {number}"

    together(call, range(50))


def test_one_at_a_time_in_a_sandbox(api: Api) -> None:
    function = api.function(
        "let busy = false;"
        "export default async () => { if (busy) return 'shared'; busy = true; await new Promise((go) => setTimeout(go, 15));"
        "busy = false; return 'alone' }"
    )
    assert set(together(lambda _: function(), range(40))) == {"alone"}


def test_no_version_sees_another_ones_state(api: Api) -> None:
    code = "globalThis.seen = (globalThis.seen ?? 0) + 1; Object.prototype.mark ??= 0; return [seen, ++Object.prototype.mark]"
    function, other = api.handler(code), api.handler(code)
    for _ in range(3):
        assert function() == other() == [1, 1]
        function.update()
        other.update()


def test_after_the_update_only_the_new_version_answers(api: Api) -> None:
    function = api.function("export default () => 0")
    for number in range(1, 9):
        function.update(code=f"export default () => {number}")
        assert together(lambda _: function(), range(3)) == [number] * 3


def test_new_limits_and_permissions_hold_at_once(api: Api) -> None:
    function = api.handler("if (req.body == 1) while (true); return (await Deno.permissions.query({name: 'net'})).state")
    assert function() == "granted"
    function.update(allow_net=False, timeout_seconds=1)
    assert function() != "granted"
    assert function.failed(1, 408, "Function execution timeout") == "Function exceeded timeout limit of 1 seconds"


def test_a_call_is_accepted_when_it_is_there_whole(server: Server, api: Api) -> None:
    function = api.function("export default () => 'old'")
    for end, answer in ((lambda: function.update(code="export default () => 'new'"), b'"new"'), (function.delete, None)):
        with Wire(server.port) as wire:
            wire.head("POST", f"/fluxbase{function.path}/invoke", content_length=2, expect="100-continue")
            assert wire.socket.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 100"
            wire.send("x")
            end()
            wire.send("y")
            status, _, body = wire.answer()
            assert (status, body) == ((200, answer) if answer else (404, b'{"error":"Function not found or disabled"}'))


def test_running_calls_finish_on_the_old_version(server: Server, api: Api, pool: ThreadPoolExecutor) -> None:
    function = api.handler(SLOW)
    running = begin(pool, server, function, 1500)
    function.update(code="export default () => 'new'")
    assert function() == "new"
    assert not running.done()
    assert running.result().json() == "old"
    assert [row["result"] for row in function.history()] == ['"new"', '"old"']


@pytest.mark.parametrize("end", [Function.delete, lambda function: function.update(enabled=False)], ids=["delete", "disable"])
def test_running_calls_survive_the_end(
    server: Server, api: Api, pool: ThreadPoolExecutor, end: Callable[[Function], object]
) -> None:
    function = api.handler(SLOW)
    running = begin(pool, server, function, 1500)
    end(function)
    refused(function.invoke("{}"), 404, UNKNOWN)
    assert not running.done()
    assert running.result().json() == "old"
    again = api.post({"name": function.name, "code": "1"})
    kept = 0 if again.status_code == 201 else 1
    assert len(function.history()) == kept


def test_the_run_goes_on_when_the_caller_goes_away(server: Server, api: Api) -> None:
    function = api.handler(SLOW)
    before = busy(server)
    with Wire(server.port) as wire:
        wire.post(f"/fluxbase{function.path}/invoke", b'{"ms": 500, "value": 1}')
        wait_until(lambda: busy(server) > before, "the handler runs")
    wait_until(function.history, "the run is recorded")
    assert [(row["status"], row["result"]) for row in function.history()] == [("success", "1")]


def test_a_function_that_misbehaves_harms_nobody(api: Api) -> None:
    neighbour = api.handler("return req.body")
    bombs = {
        "while (true);": "Function exceeded timeout limit of 2 seconds",
        "Deno.exit(0)": "Error: Function exited with code 0",
        "const all = []; for (;;) all.push(new Uint8Array(1e7).fill(1))": "Error: Function exceeded memory limit of 128 MB",
        "for (;;) console.log('y'.repeat(65536))": "Function exceeded timeout limit of 2 seconds",
    }
    made = {
        api.handler(f"if (req.body == 1) {{ {code} }} return 'fine'", timeout_seconds=2): text for code, text in bombs.items()
    }
    done: list[Function] = []

    def drop(function: Function) -> None:
        timeout = made[function].startswith("Function exceeded timeout")
        assert function.failed(1, *((408, "Function execution timeout") if timeout else ())) == made[function]
        assert function(2) == "fine"
        done.append(function)

    def stay(_: Function) -> None:
        numbers = itertools.count()
        wait_until(lambda: neighbour(number := next(numbers)) == str(number) and len(done) == len(made), "all are over")

    together(lambda function: stay(function) if function is neighbour else drop(function), [neighbour, *made])
    assert len(done) == len(made)


def test_what_was_acknowledged_survives_a_kill(make_server: Callable[..., Server], connect: Callable[..., Api]) -> None:
    server = make_server(env=KEY)
    api = connect(server)
    made = together(
        lambda number: api.handler(f"return {number}", cron_schedule="@yearly", description=f"größe {number}"), range(8)
    )
    made[0].update(timeout_seconds=7)
    made[1].delete()
    ids = [made[2].invoke().headers["x-execution-id"] for _ in range(5)]
    items, histories = api.items(), made[2].history()
    assert [row["id"] for row in histories] == ids[::-1]
    server.restart_after_kill()
    assert api.items() == items
    assert made[2].history() == histories
    refused(made[1].put({}), 404, "Function not found")
    assert (made[0](), made[7]()) == (0, 7)


def test_a_run_that_a_kill_cuts_off_leaves_no_row(
    make_server: Callable[..., Server], connect: Callable[..., Api], pool: ThreadPoolExecutor
) -> None:
    server = make_server(env=KEY)
    api = connect(server)
    function = api.handler(SLOW)
    done = function.invoke('{"ms": 0, "value": 1}').headers["x-execution-id"]
    cut_off = begin(pool, server, function, 60_000)
    beside = function.invoke('{"ms": 1500, "value": 1}').headers["x-execution-id"]
    server.restart_after_kill()
    assert isinstance(cut_off.exception(), httpx2.TransportError)
    assert [row["id"] for row in function.history()] == [beside, done]


def test_a_kill_in_the_middle_of_many_calls(
    make_server: Callable[..., Server], connect: Callable[..., Api], pool: ThreadPoolExecutor
) -> None:
    server = make_server("--no-rate-limits", env=KEY)
    function = connect(server).function()
    answered: list[str] = []

    def call_until_it_ends() -> None:
        try:
            while True:
                answered.append(function.invoke().headers["x-execution-id"])
        except httpx2.TransportError:
            return

    callers = [pool.submit(call_until_it_ends) for _ in range(4)]
    wait_until(lambda: len(answered) >= 200, "calls are answered")
    server.kill()
    for caller in callers:
        caller.result()
    server.start()
    rows = [
        row["id"] for offset in range(0, len(answered) + 10, 1000) for row in function.history(f"?limit=1000&offset={offset}")
    ]
    assert set(answered) <= set(rows)
    assert len(rows) == len(set(rows)) <= len(answered) + 4


def test_sigterm_lets_runs_finish(
    make_server: Callable[..., Server], connect: Callable[..., Api], pool: ThreadPoolExecutor
) -> None:
    server = make_server(env=KEY)
    function = connect(server).handler(SLOW)
    running = begin(pool, server, function, 1500)
    server.terminate()
    wait_until(lambda: not server.healthy(), "no new requests are taken")
    assert running.result().json() == "old"
    assert server.wait() == 0
    server.start()
    assert [(row["status"], row["result"]) for row in function.history()] == [("success", '"old"')]


def test_sigterm_does_not_wait_for_ever(
    make_server: Callable[..., Server], connect: Callable[..., Api], pool: ThreadPoolExecutor
) -> None:
    server = make_server(env={**KEY, "SPINNEY_DRAIN_S": "1"})
    function = connect(server).handler(SLOW)
    running = begin(pool, server, function, 60_000)
    assert server.stop() == 0
    body = refused(running.result(), 503, "Function runtime unavailable")
    assert (body["message"], body["function"]) == (STOPPED, function.name)
    server.start()
    assert [(row["id"], row["status"], row["error_message"]) for row in function.history()] == [
        (body["execution_id"], "error", STOPPED)
    ]


def test_a_server_without_room(make_server: Callable[..., Server], connect: Callable[..., Api]) -> None:
    server = make_server(env={**KEY, "SPINNEY_SANDBOX_MEMORY_BUDGET_MB": "1", "SPINNEY_POOL_QUEUE_WAIT_S": "0.2"})
    function = connect(server).function(name=unique("no-room"))
    assert "/" not in function.failed(None, 503, "Function runtime unavailable")
