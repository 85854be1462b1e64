"""Many at once, updates and deletes in the middle, clients that leave, restarts (contract 5, traps 10, 17, 20)."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.api import together, unique
from tests.dialects.impuls.api import FUNCTIONS, Api, Function, refused
from tests.processes import find_processes, new_name
from tests.server import Server, wait_until
from tests.wire import Wire

# Takes a name that can be seen from outside, waits, answers.
NAMED = "process.title = event.name; await new Promise((go) => setTimeout(go, event.ms)); return 'old'"
SPAN = "const start = Date.now(); await new Promise((go) => setTimeout(go, event.ms)); return [start, Date.now()]"


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as threads:
        yield threads


def begin(pool: ThreadPoolExecutor, function: Function, ms: int) -> tuple[str, Future[Any]]:
    """Start a NAMED call and return once its handler runs."""
    name = new_name()
    call = pool.submit(function.invoke, {"name": name, "ms": ms})
    wait_until(lambda: call.done() or find_processes(name), "the handler runs")
    assert not call.done(), call.result()
    return name, call


def test_ten_calls_of_one_function_run_at_once(api: Api) -> None:
    function = api.node(SPAN)
    spans = together(lambda _: function({"ms": 2500}), range(10))
    assert max(start for start, _ in spans) < min(end for _, end in spans)


def test_ten_functions_start_and_run_at_once(api: Api) -> None:
    functions = [api.node(SPAN) for _ in range(10)]
    spans = together(lambda function: function({"ms": 2500}), functions)
    assert max(start for start, _ in spans) < min(end for _, end in spans)


def test_two_hundred_calls_find_room_or_wait(api: Api) -> None:
    function = api.node("await new Promise((go) => setTimeout(go, 20)); return event")
    assert together(function, range(1, 211)) == list(range(1, 211))


@pytest.fixture(scope="module")
def narrow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on which simultaneous calls of one function have to wait for each other."""
    with Server(tmp_path_factory.mktemp("narrow") / "data", env={"SPINNEY_POOL_SANDBOXES_PER_FUNCTION": "1"}) as server:
        yield server


def test_waiting_counts_neither_as_duration_nor_as_time(narrow_server: Server, connect: Callable[..., Api]) -> None:
    function = connect(narrow_server).node(
        "const left = context.getRemainingTimeInMillis();" + SPAN.replace("return [", "return [left, "), timeout_sec=1
    )
    answers = together(lambda _: function.invoke({"ms": 400}), range(5))
    assert [answer.get("error") for answer in answers] == [None] * 5
    assert all(answer["duration_ms"] < 1000 and answer["body"][0] > 500 for answer in answers)
    spans = sorted(answer["body"][1:] for answer in answers)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))


def test_calls_wait_in_order_of_arrival(narrow_server: Server, connect: Callable[..., Api], pool: ThreadPoolExecutor) -> None:
    function = connect(narrow_server).node(
        "globalThis.order ??= []; order.push(event.ms); if (event.name) {" + NAMED + "} return order"
    )
    _, first = begin(pool, function, 1000)
    wires = [Wire(narrow_server.port) for _ in range(8)]
    for number, wire in enumerate(wires):
        wire.post(f"/impuls{function.path}/invoke", json.dumps({"ms": number}).encode())
        # an answer to a later request shows that the earlier one was read
        assert function.api.send("GET", "/health").status_code == 200
    assert first.result()["body"] == "old"
    assert wires[-1].answer().json()["body"] == [1000, *range(8)]
    for wire in wires:
        wire.close()


def test_one_process_handles_one_event_at_a_time(api: Api) -> None:
    function = api.node(
        "if (globalThis.busy) return 'shared'; globalThis.busy = true; await new Promise((go) => setTimeout(go, 15));"
        "globalThis.busy = false; return 'alone'"
    )
    assert set(together(lambda _: function(), range(60))) == {"alone"}


def test_a_stuck_function_holds_up_nobody(api: Api, pool: ThreadPoolExecutor) -> None:
    stuck = api.node("while (true);", timeout_sec=3)
    calls = [pool.submit(stuck.invoke) for _ in range(10)]
    neighbour = api.node("return event")
    for number in range(10):
        assert neighbour(number) == number
        assert api.send("GET", FUNCTIONS).status_code == 200
        neighbour.update(description=str(number))
    assert {call.result()["error"] for call in calls} == {"function execution timed out after 3 seconds"}


def test_a_warm_sandbox_keeps_globals_and_tmp(api: Api) -> None:
    function = api.node("const fs = require('fs'); fs.appendFileSync('/tmp/runs', 'x'); return fs.statSync('/tmp/runs').size")
    sizes = [function() for _ in range(6)]
    assert sizes[0] == 1 and max(sizes) > 1


def test_a_warm_sandbox_outlives_a_pause(api: Api) -> None:
    """Whatever started it may be gone by then."""
    function = api.node("globalThis.runs = (globalThis.runs ?? 0) + 1; return runs")
    function()
    together(lambda _: api.function()(), range(8))
    assert function() == 2


def test_nothing_survives_into_another_version(api: Api) -> None:
    code = "const fs = require('fs'); const seen = [globalThis.left ?? 0, fs.readdirSync('/tmp').length]; globalThis.left = 1;"
    function = api.node(code + "fs.writeFileSync('/tmp/left', 'x'); return seen")
    for number in range(4):
        assert function() == [0, 0]
        assert function() in ([0, 0], [1, 1])
        function.update(description=f"version {number}")


def test_a_sandbox_that_failed_is_thrown_away(api: Api) -> None:
    function = api.node(
        "globalThis.runs = (globalThis.runs ?? 0) + 1; if (event.exit) process.exit(1); if (event.hang) while (true);"
        "if (event.throw) throw new Error('ordinary'); return runs",
        timeout_sec=1,
    )
    for failure in ({"exit": True}, {"hang": True}):
        assert function({}) >= 1
        function.error(failure)
        assert function({}) == 1


def test_a_sandbox_that_died_while_it_was_idle(api: Api) -> None:
    function = api.node(
        "if (!event.name) return 'alive'; process.title = event.name;"
        "require('child_process').spawn('sh', ['-c', `sleep 0.2; kill -9 ${process.pid}`], {detached: true}).unref()"
    )
    for _ in range(3):
        name = new_name()
        function({"name": name})
        wait_until(lambda name=name: not find_processes(name), "the process has killed itself")  # type: ignore[misc]
        assert function({}) == "alive"


def test_running_calls_finish_on_the_old_version(api: Api, pool: ThreadPoolExecutor) -> None:
    function = api.node(NAMED)
    name, running = begin(pool, function, 1500)
    function.update(code="exports.handler = async () => 'new'")
    assert function() == "new"
    assert not running.done()
    assert running.result()["body"] == "old"
    wait_until(lambda: not find_processes(name), "the old version's sandbox is gone")


def test_idle_sandboxes_of_the_old_version_go_at_once(api: Api) -> None:
    function = api.node(NAMED)
    name = new_name()
    function({"name": name, "ms": 0})
    assert find_processes(name)
    function.update(environment={"A": "1"})
    wait_until(lambda: not find_processes(name), "the old version's sandbox is gone")


def test_running_calls_survive_the_delete(api: Api, pool: ThreadPoolExecutor) -> None:
    function = api.node(NAMED)
    name, running = begin(pool, function, 1500)
    assert function.delete().status_code == 200
    refused(function.post({}), 404)
    assert not running.done()
    assert running.result()["body"] == "old"
    wait_until(lambda: not find_processes(name), "the deleted function's sandbox is gone")


def test_a_call_sees_one_version_whole(api: Api, pool: ThreadPoolExecutor) -> None:
    def fields(number: int) -> dict[str, Any]:
        code = f"exports.handler = async () => [{number}, process.env.N, __filename]"
        return {"code": code, "environment": {"N": str(number)}, "handler": f"m{number}.handler"}

    function = api.function(**fields(0))
    updating = [pool.submit(function.update, **fields(number)) for number in range(1, 25)]
    seen = [function() for _ in range(40)]
    newest = max((update.result() for update in updating), key=lambda updated: updated["updated_at"])
    for number, variable, file in [*seen, function()]:
        assert (variable, file) == (str(number), f"/var/task/m{number}.js")
    assert function.get() == newest
    assert function()[1] == newest["environment"]["N"]


def test_after_the_update_only_the_new_version_answers(api: Api) -> None:
    function = api.node("return 0")
    for number in range(1, 12):
        function.update(code=f"exports.handler = () => {number}")
        assert together(lambda _: function(), range(3)) == [number] * 3


def test_the_call_goes_on_when_the_client_goes_away(server: Server, api: Api) -> None:
    function = api.node(NAMED)
    for half in (False, True):
        name = new_name()
        with Wire(server.port) as wire:
            wire.post(f"/impuls{function.path}/invoke", json.dumps({"name": name, "ms": 400}).encode())
            wait_until(lambda name=name: find_processes(name), "the handler runs")  # type: ignore[misc]
            if half:
                wire.socket.shutdown(1)
                wait_until(lambda: len(function.executions("?status=success")) == 2, "the call ends")
    wait_until(lambda: [item["status"] for item in function.executions()] == ["success"] * 2, "both calls end well")


def test_what_was_acknowledged_survives_a_kill(make_server: Callable[..., Server], connect: Callable[..., Api]) -> None:
    server = make_server()
    api = connect(server)
    environment = {"KEY": "größe"}
    made = together(lambda n: api.node(f"return [{n}, process.env.KEY]", environment=environment), range(12))
    made[0].update(description="changed")
    made[1].delete()
    before = api.send("GET", FUNCTIONS).json()
    objects = [function.get() for function in made if function is not made[1]]
    server.restart_after_kill()
    assert api.send("GET", FUNCTIONS).json() == before
    assert [api.send("GET", f"{FUNCTIONS}/{one['name']}").json() for one in objects] == objects
    refused(api.send("GET", made[1].path), 404)
    assert made[0]() == [0, "größe"]
    assert together(lambda function: function()[1], made[2:]) == ["größe"] * 10


def test_a_kill_in_the_middle_of_creating(
    make_server: Callable[..., Server], connect: Callable[..., Api], pool: ThreadPoolExecutor
) -> None:
    server = make_server()
    api = connect(server)
    acknowledged: list[dict[str, Any]] = []

    def create_until_it_ends() -> None:
        try:
            while True:
                acknowledged.append(api.function(name=unique("crash")).created)
        except httpx2.TransportError:
            return

    creators = [pool.submit(create_until_it_ends) for _ in range(4)]
    wait_until(lambda: len(acknowledged) >= 40, "functions are created")
    server.kill()
    for creator in creators:
        creator.result()
    server.start()
    stored = {item["id"] for item in api.send("GET", FUNCTIONS).json()["functions"]}
    assert {one["id"] for one in acknowledged} <= stored
    assert Function(api, acknowledged[-1])() == "hi"


def test_sandboxes_of_a_killed_server_are_removed(
    make_server: Callable[..., Server], connect: Callable[..., Api], pool: ThreadPoolExecutor
) -> None:
    server = make_server()
    api = connect(server)
    busy, idle = api.node(NAMED), api.node(NAMED)
    idle_name = new_name()
    idle({"name": idle_name, "ms": 0})
    busy_name, cut_off = begin(pool, busy, 60_000)
    server.restart_after_kill()
    assert cut_off.exception() is not None
    wait_until(lambda: not find_processes(busy_name) and not find_processes(idle_name), "the old sandboxes are gone")
    assert idle({"name": idle_name, "ms": 0}) == "old"


def test_sigterm_lets_running_calls_finish(
    make_server: Callable[..., Server], connect: Callable[..., Api], pool: ThreadPoolExecutor
) -> None:
    server = make_server()
    function = connect(server).node(NAMED)
    name, running = begin(pool, function, 1500)
    server.terminate()
    wait_until(lambda: not server.healthy(), "no new requests are taken")
    assert not running.done()
    assert running.result()["body"] == "old"
    assert server.wait() == 0
    assert not find_processes(name)
    server.start()
    assert function({"name": name, "ms": 0}) == "old"
    assert [item["status"] for item in function.executions()] == ["success"] * 2


def test_sigterm_does_not_wait_for_ever(
    make_server: Callable[..., Server], connect: Callable[..., Api], pool: ThreadPoolExecutor
) -> None:
    server = make_server(env={"SPINNEY_DRAIN_S": "0.5"})
    function, name = connect(server).node(NAMED), new_name()
    running = pool.submit(function.post, {"name": name, "ms": 60_000})
    wait_until(lambda: find_processes(name), "the handler runs")
    assert server.stop() == 0
    assert not find_processes(name)
    refused(running.result(), 503, "the server is shutting down")


def test_short_calls_do_not_stand_behind_long_ones(api: Api, pool: ThreadPoolExecutor) -> None:
    """A function whose calls are short gets several at a time in one sandbox; a long one among them must not keep the others."""
    function = api.node("if (event.ms) await new Promise((go) => setTimeout(go, event.ms)); return event.n")
    assert list(pool.map(lambda n: function({"n": n}), range(400))) == list(range(400))
    long = [pool.submit(function, {"n": -n, "ms": 5000}) for n in range(1, 5)]
    short = [pool.submit(function, {"n": n}) for n in range(400)]
    assert [call.result() for call in short] == list(range(400))
    assert not any(call.done() for call in long)
    assert [call.result() for call in long] == [-1, -2, -3, -4]


def test_every_call_runs_once_whatever_happens_to_its_sandbox(api: Api, pool: ThreadPoolExecutor) -> None:
    """Calls that were behind one that ended its sandbox run elsewhere; none is lost, none is run twice."""
    function = api.node("console.log('ran ' + event.n); if (event.end) process.exit(3); return event.n")
    assert list(pool.map(lambda n: function({"n": n}), range(200))) == list(range(200))
    calls = [pool.submit(function.invoke, {"n": n, "end": n % 40 == 7}) for n in range(1000, 1600)]
    answers = [call.result() for call in calls]
    assert [answer["status_code"] for answer in answers] == [500 if n % 40 == 7 else 200 for n in range(1000, 1600)]
    assert [answer["body"] for answer in answers if answer["status_code"] == 200] == [n for n in range(1000, 1600) if n % 40 != 7]
    ran = [line for answer in answers for line in answer["logs"].splitlines() if "ran " in line]
    assert sorted(int(line.rpartition(" ")[2]) for line in ran) == list(range(1000, 1600))
