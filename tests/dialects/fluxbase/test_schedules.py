"""Schedules, live (contract 2.8, 5): what fires when, what it sees, and what changes, restarts and ends do to it."""

from __future__ import annotations

import http.client
import itertools
import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.api import unique
from tests.conftest import ADMIN_KEY
from tests.dialects.fluxbase.api import FUNCTIONS, TRIVIAL, Api, Function, refused
from tests.server import Server, wait_until

EVERY_SECOND = "* * * * * *"
NEW_YEAR = "0 0 1 1 *"
ENV = {
    "SPINNEY_ADMIN_KEY": ADMIN_KEY,
    **{f"SPINNEY_FLUXBASE_RATE_{group}": "0" for group in ("WRITES", "LISTS", "HISTORY")},
    "SPINNEY_FLUXBASE_RATE_INVOKES": "1",
}


@pytest.fixture(scope="module")
def ticking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for functions that fire every second; whoever has invoked one twice in a minute is refused."""
    with Server(tmp_path_factory.mktemp("ticking") / "data", env=ENV) as server:
        yield server


@pytest.fixture
def schedule(ticking: Server, connect: Callable[..., Api]) -> Iterator[Callable[..., Function]]:
    """Make functions that fire, and remove them at the end, so that they do not slow the other tests down."""
    api = connect(ticking)
    made: list[Function] = []

    def make(code: str = TRIVIAL, cron_schedule: str | None = EVERY_SECOND, **fields: Any) -> Function:
        made.append(api.function(code, cron_schedule=cron_schedule, **fields))
        return made[-1]

    yield make
    for function in made:
        function.delete()


def runs(function: Function) -> list[dict[str, Any]]:
    """All scheduled runs so far, oldest first."""
    return function.history("?trigger_type=cron&limit=1000")[::-1]


def wait_for_runs(function: Function, count: int) -> list[dict[str, Any]]:
    wait_until(lambda: len(runs(function)) >= count, f"{count} scheduled runs", 60)
    return runs(function)


def busy(server: Server) -> int:
    """Sandboxes that are running something."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    found = re.search(r'^spinney_sandboxes\{state="busy"\} (\S+)$', text, re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


# -- what is accepted --------------------------------------------------------------------------------------------------

GOOD = ["*/5 * * * *", "0 9-17/2 * JAN,DEC MON-FRI", "30 0 0 1 1 0", "@hourly", "@annually", "0 0 30 2 *", "0 0 * * 7"]
BAD = ["60 * * * *", "* 24 * * *", "* * 32 * *", "* * * 13 *", "* * * * 8", "*/0 * * * *", "* * * *", "* * * * * * *", "often"]
BEYOND = ["@reboot", "@every 1s", "* * L * *", "* * * * 1#2", "* * ? * *", "H * * * *", "* * 15W * *", "5/15 * * * *"]


@pytest.mark.parametrize("text", GOOD)
def test_a_schedule_is_kept_as_given(api: Api, text: str) -> None:
    function = api.function(cron_schedule=text, enabled=False)
    assert function.get()["cron_schedule"] == text


@pytest.mark.parametrize("text", BAD + BEYOND)
def test_what_is_no_schedule_is_refused(api: Api, text: str) -> None:
    name = unique()
    refused(api.post({"name": name, "code": TRIVIAL, "cron_schedule": text}), 400, "Invalid cron schedule")
    assert api.send("GET", f"{FUNCTIONS}/{name}").status_code == 404
    function = api.function(cron_schedule=NEW_YEAR)
    refused(function.put({"cron_schedule": text}), 400, "Invalid cron schedule")
    assert (function.get()["cron_schedule"], function.get()["version"]) == (NEW_YEAR, 1)
    assert function.update(cron_schedule="")["cron_schedule"] is None


# -- runs --------------------------------------------------------------------------------------------------------------


def test_fires_and_leaves_rows(schedule: Callable[..., Function]) -> None:
    function = schedule("export default (req) => { console.log('tick'); return req }")
    rows = wait_for_runs(function, 3)
    for row in rows:
        assert (row["trigger_type"], row["status"], row["status_code"]) == ("cron", "success", 200)
        assert row["logs"] == "console.log: tick"
        assert row["function_id"] == function.created["id"]
        assert row["executed_at"] > function.created["created_at"]
    url = f"{function.api.http.base_url}".rstrip("/") + f"{function.path}/scheduled"
    seen = {"method": "POST", "url": url, "headers": {"content-type": "application/json"}, "body": "{}", "params": {}}
    assert json.loads(rows[0]["result"]) == seen
    assert function.history("?trigger_type=http") == []


def test_scheduled_runs_do_not_count_against_rate_limits(schedule: Callable[..., Function]) -> None:
    function = schedule()
    wait_for_runs(function, 3)
    assert function.invoke().status_code == 200
    refused(function.invoke(), 429, "Rate limit exceeded")
    wait_for_runs(function, len(runs(function)) + 2)


def test_failures_and_timeouts_are_recorded(schedule: Callable[..., Function]) -> None:
    failing = schedule("export default () => { throw new TypeError('no') }")
    endless = schedule("export default () => { for (;;); }", timeout_seconds=1)
    failed, late = wait_for_runs(failing, 1)[0], wait_for_runs(endless, 1)[0]
    assert (failed["status"], failed["status_code"], failed["error_message"]) == ("error", 500, "TypeError: no")
    assert (late["status"], late["status_code"]) == ("timeout", 408)
    assert late["error_message"] == "Function exceeded timeout limit of 1 seconds"
    wait_for_runs(failing, 2)
    wait_for_runs(endless, 2)


def test_runs_of_one_function_never_overlap(schedule: Callable[..., Function]) -> None:
    slow = schedule("export default () => new Promise((done) => setTimeout(done, 1500))")
    rows = wait_for_runs(slow, 3)
    assert all(before["completed_at"] <= after["executed_at"] for before, after in itertools.pairwise(rows))


def test_a_long_run_does_not_hold_up_other_functions(schedule: Callable[..., Function]) -> None:
    slow = schedule("export default () => new Promise((done) => setTimeout(done, 20000))")
    quick = schedule()
    wait_for_runs(quick, 3)
    assert runs(slow) == []


def test_many_in_the_same_second(schedule: Callable[..., Function]) -> None:
    functions = [schedule() for _ in range(12)]
    for function in functions:
        assert {row["status"] for row in wait_for_runs(function, 2)} == {"success"}


# -- changes -----------------------------------------------------------------------------------------------------------


def test_changes_take_effect_at_once(schedule: Callable[..., Function]) -> None:
    witness = schedule()
    function = schedule(cron_schedule=NEW_YEAR)
    idle = schedule(enabled=False)

    def some_time() -> None:
        wait_for_runs(witness, len(runs(witness)) + 2)

    some_time()
    assert runs(function) == runs(idle) == []
    function.update(cron_schedule=EVERY_SECOND)
    idle.update(enabled=True)
    wait_for_runs(function, 1)
    wait_for_runs(idle, 1)
    cleared = function.update(cron_schedule=None)["updated_at"]
    disabled = idle.update(enabled=False)["updated_at"]
    some_time()
    assert all(row["executed_at"] <= cleared for row in runs(function))
    assert all(row["executed_at"] <= disabled for row in runs(idle))
    function.update(cron_schedule=EVERY_SECOND)
    wait_for_runs(function, len(runs(function)) + 1)


def test_a_new_version_fires_from_then_on(schedule: Callable[..., Function]) -> None:
    function = schedule("export default () => 'old'")
    wait_for_runs(function, 1)
    changed = function.update(code="export default () => 'new'")["updated_at"]
    count = len(runs(function))
    wait_for_runs(function, count + 2)
    assert {row["result"] for row in runs(function) if row["executed_at"] > changed} == {'"new"'}


def test_a_deleted_function_fires_no_more(schedule: Callable[..., Function], ticking: Server) -> None:
    function, witness = schedule(), schedule()
    wait_for_runs(function, 1)
    assert function.delete().status_code == 204
    again = function.api.function("export default () => 1", name=function.name)
    wait_for_runs(witness, len(runs(witness)) + 2)
    assert again.history() == []
    assert "could not be run" not in ticking.log()


# -- ends and restarts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_schedules_survive_the_server(make_server: Callable[..., Server], connect: Callable[..., Api], end: str) -> None:
    server = make_server(env=ENV)
    api = connect(server)
    function = api.function(cron_schedule=EVERY_SECOND)
    idle = api.function(cron_schedule=EVERY_SECOND, enabled=False)
    before = wait_for_runs(function, 2)
    if end == "kill":
        server.kill()
    else:
        assert server.stop() == 0
    down = time.monotonic()
    wait_until(lambda: time.monotonic() > down + 3, "times have been missed")
    server.start()
    after = wait_for_runs(function, len(before) + 4)
    assert after[: len(before)] == before
    assert {row["status"] for row in after} == {"success"}
    new = [datetime.fromisoformat(row["executed_at"]) for row in after if row["executed_at"] > before[-1]["executed_at"]]
    assert len(new) <= (new[-1] - new[0]).total_seconds() + 2, "what was missed is not made up"
    assert runs(idle) == []


def test_a_drain_lets_a_scheduled_run_finish(make_server: Callable[..., Server], connect: Callable[..., Api]) -> None:
    server = make_server(env=ENV)
    api = connect(server)
    api.function("export default () => new Promise((done) => setTimeout(() => done('whole'), 2500))", cron_schedule=EVERY_SECOND)
    [item] = api.items()
    wait_until(lambda: busy(server), "it runs")
    asked = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert server.stop() == 0
    server.start()
    function = Function(api, {**item, "code": ""})
    function.update(enabled=False)
    rows = runs(function)
    assert {(row["status"], row["result"]) for row in rows} == {("success", '"whole"')}
    assert any(row["executed_at"] < asked < row["completed_at"] for row in rows)


def test_a_run_that_a_kill_cuts_off_leaves_no_row(make_server: Callable[..., Server], connect: Callable[..., Api]) -> None:
    server = make_server(env=ENV)
    api = connect(server)
    function = api.function("export default () => new Promise((done) => setTimeout(done, 30000))", cron_schedule=EVERY_SECOND)
    wait_until(lambda: busy(server), "it runs")
    server.restart_after_kill()
    function.update(enabled=False)
    assert function.history() == []
