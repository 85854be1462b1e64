"""Crashes, ends, and functions that mean harm (contract 3.3, 5, 7)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from tests.api import together
from tests.conftest import ADMIN_KEY
from tests.dialects.lunar.api import Api, Function, done
from tests.server import Server, wait_until


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as threads:
        yield threads


@pytest.fixture
def own(make_server: Callable[..., Server]) -> Server:
    """A server that may be treated badly."""
    return make_server(env={"SPINNEY_ADMIN_KEY": ADMIN_KEY})


def begun(function: Function) -> bool:
    """Whether a run has begun."""
    return any(one["status"] == "pending" for one in function.executions())


def test_everything_acknowledged_survives_a_crash(own: Server, connect: Callable[..., Api], pool: ThreadPoolExecutor) -> None:
    api = connect(own)
    function = api.handler("kv.set('k', 'v') kv.setGlobal('g', 'v') env.set('E', 'v') log.info('row') return { body = 'x' }")
    function.update(
        code=function.created["active_version"]["code"], cron_schedule="0 0 1 1 *", cron_status="active", retention_days=30
    )
    done(function.activate(1))
    done(function.delete_version(2), 204)
    responses = [function.run(f"event {n}") for n in range(20)]
    long = api.handler("log.info('before') time.sleep(60000) return {}")
    running = pool.submit(long.run, '{"password": "x", "a": 1}')
    wait_until(lambda: begun(long), "the long run")
    before = function.get()
    own.restart_after_kill()
    with pytest.raises(httpx2.HTTPError):
        running.result()
    assert function.get() == before
    assert (before["scoped_data"], before["env_vars"]) == ({"k": "v"}, {"E": "v"}) and before["global_data"]["g"] == "v"
    for n, response in enumerate(responses):
        execution = function.execution(response)
        assert execution["status"] == "success" and f"event {n}" in execution["event_json"]
        assert [row["message"] for row in function.logs(response)] == ["row"]
    assert api.get(f"{function.path}/next-run")["cron_status"] == "active"
    function.update(code="function handler() return { body = '3' } end")
    assert [one["version"] for one in function.versions()] == [3, 1]
    (cut,) = long.executions()
    assert (cut["status"], cut["error_message"]) == ("error", "Execution interrupted by server restart")
    assert '"body":"{\\"a\\":1,\\"password\\":\\"[REDACTED]\\"}"' in cut["event_json"]
    rows = api.get(f"/api/executions/{cut['id']}/logs")["logs"]
    assert [(row["level"], row["message"]) for row in rows] == [("error", "Execution interrupted by server restart")]
    assert function.run().text == "3"


def test_a_crash_leaves_no_run_without_a_row(own: Server, connect: Callable[..., Api], pool: ThreadPoolExecutor) -> None:
    """What a run has done it did not do unseen: its row is there before its code."""
    api = connect(own)
    function = api.handler("kv.incr('n') time.sleep(30) return { body = 'x' }")
    load = [pool.submit(lambda: [function.run() for _ in range(1000)]) for _ in range(8)]
    wait_until(lambda: int(function.get()["scoped_data"].get("n", 0)) > 100, "load")
    own.restart_after_kill()
    assert all(task.exception() is not None for task in load)
    page = api.get(f"{function.path}/executions?limit=100")
    rows = page["pagination"]["total"]
    assert rows >= int(function.get()["scoped_data"]["n"])
    assert {one["status"] for one in page["executions"]} <= {"success", "error"}


def test_sigterm_lets_runs_finish_and_says_which_did_not(
    own: Server, connect: Callable[..., Api], pool: ThreadPoolExecutor
) -> None:
    api = connect(own)
    short = api.handler("time.sleep(2000) return { body = 'finished' }")
    long = api.handler("log.info('before') time.sleep(120000) return {}")
    runs = [pool.submit(one.run) for one in (short, long)]
    wait_until(lambda: begun(short) and begun(long), "both runs")
    assert own.stop() == 0
    assert runs[0].result().text == "finished"
    refused = runs[1].result()
    assert (refused.status_code, refused.json()) == (500, {"error": "Function execution failed"})
    own.start()
    assert [one["status"] for one in short.executions()] == ["success"]
    (cut,) = long.executions()
    assert (cut["status"], cut["error_message"]) == ("error", "Execution interrupted by server shutdown")


def test_clients_that_leave_do_not_stop_their_runs(api: Api) -> None:
    function = api.handler("kv.set('begun', '1') time.sleep(1500) kv.set('done', '1') return { body = 'x' }")
    with pytest.raises(httpx2.TimeoutException):
        function.run(timeout=0.5)
    wait_until(lambda: [one["status"] for one in function.executions()] == ["success"], "the end of the run")
    assert function.get()["scoped_data"] == {"begun": "1", "done": "1"}


def test_a_loop_harms_nobody_else(own: Server, connect: Callable[..., Api], pool: ThreadPoolExecutor) -> None:
    own.stop()
    own.environment["EXECUTION_TIMEOUT"] = "3"
    own.start()
    api = connect(own)
    loops = [
        api.handler("while true do end"),
        api.handler("while true do pcall(function() while true do end end) end"),
        api.handler("coroutine.wrap(function() while true do end end)()"),
        api.handler("string.rep('a', 40):find(string.rep('a?', 40) .. string.rep('a', 40) .. 'b')" * 3 + " while true do end"),
        api.handler("time.sleep(3600000)"),
    ]
    other = api.function()
    runs = [pool.submit(loop.failed) for loop in loops]
    wait_until(lambda: all(loop.executions() for loop in loops), "the loops")
    assert together(lambda _: other.run().text, range(8)) == ["hi"] * 8
    assert other.get()["name"] == other.created["name"]
    assert [run.result() for run in runs] == ["Execution timed out after 3s"] * len(loops)


@pytest.mark.parametrize(
    "code",
    [
        "local t = {} while true do t[#t + 1] = string.rep('x', 1000000) .. #t end",
        "local s = 'x' while true do s = s .. s end",
        "return { body = string.rep('x', 2000000000) }",
    ],
)
def test_memory_has_a_limit(lua: Function, code: str) -> None:
    assert lua.failed(code).startswith("Memory limit exceeded")
    assert lua.run("return { body = 'well' }").text == "well"


def test_hostile_values_harm_nobody(lua: Function) -> None:
    cyclic = "local t = {} t.t = t "
    assert lua.run(cyclic + "return { body = t, headers = t, statusCode = t }").status_code == 200
    assert "encountered a cycle" in lua.run(cyclic + "return { body = select(2, json.encode(t)) }").text
    assert lua.failed("error(setmetatable({}, { __tostring = function() error('again') end }))").startswith("Error")
    assert lua.failed("local function f() return f() + 1 end f()").startswith("Error")
    large = "return { headers = { [string.rep('x', %d)] = string.rep('y', 10000) } }"
    assert lua.failed(large % 30000) == "Error: response headers larger than 32768 bytes"
    assert len(lua.run(large % 22000).headers["x" * 22000]) == 10000
    assert lua.run("return { body = 'well' }").text == "well"
