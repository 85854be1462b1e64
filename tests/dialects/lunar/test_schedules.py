"""Functions that run by the clock (contract 2.7, 3.1, 3.11)."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable

import pytest

from spinney.dialects.lunar.wire import human_time
from tests.conftest import ADMIN_KEY
from tests.dialects.lunar.api import Api, Function, refused
from tests.server import Server, wait_until

EVERY_MINUTE = "* * * * *"


def next_run(function: Function) -> dict[str, object]:
    found: dict[str, object] = function.api.get(f"{function.path}/next-run")
    return found


def test_next_run(api: Api) -> None:
    function = api.function()
    assert next_run(function) == {"has_schedule": False}
    function.update(cron_schedule="*/5 * * * *")
    paused = {"has_schedule": True, "cron_schedule": "*/5 * * * *", "cron_status": "paused", "is_paused": True}
    assert next_run(function) == paused
    function.update(cron_status="active")
    found = next_run(function)
    due, human = found.pop("next_run"), found.pop("next_run_human")
    assert found == {"has_schedule": True, "cron_schedule": "*/5 * * * *", "cron_status": "active"}
    assert isinstance(due, int) and due % 300 == 0 and 0 < due - time.time() <= 300
    assert re.fullmatch("in less than a minute|in 1 minute|in [2-5] minutes", str(human))
    function.update(cron_schedule="0 0 31 2 *")
    assert next_run(function) == {"has_schedule": True, "cron_schedule": "0 0 31 2 *", "cron_status": "active"}
    function.update(cron_schedule="")
    assert next_run(function) == {"has_schedule": False}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "in less than a minute"),
        (59, "in less than a minute"),
        (60, "in 1 minute"),
        (119, "in 1 minute"),
        (3599, "in 59 minutes"),
        (3600, "in 1 hour"),
        (86399, "in 23 hours"),
        (86400, "in 1 day"),
        (200000, "in 2 days"),
    ],
)
def test_times_in_words(seconds: int, text: str) -> None:
    assert human_time(seconds) == text


@pytest.mark.parametrize("text", ["@daily", "* * * * * *", "61 * * * *", "TZ=Nope/X * * * * *", " "])
def test_faulty_schedules(api: Api, text: str) -> None:
    function = api.function()
    response = function.put({"cron_schedule": text})
    assert response.status_code == 400
    assert response.json()["error"].startswith("cron_schedule: invalid cron expression: ")
    assert "cron_schedule" not in function.get()


def test_clients_cannot_make_scheduled_runs(echo: Function) -> None:
    headers = {"x-trigger": "cron", "x-cron-schedule": EVERY_MINUTE}
    response = echo.run(headers=headers)
    assert not any(name.startswith("X-") for name in response.json()["event"]["headers"])
    assert echo.execution(response)["trigger"] == "http"


def test_runs_by_the_clock(make_server: Callable[..., Server], connect: Callable[..., Api]) -> None:
    """One minute's tick, seen by functions that run, are paused, disabled or gone, and by one whose last run goes on."""
    env = {"SPINNEY_ADMIN_KEY": ADMIN_KEY, "TZ": "Asia/Kolkata"}
    api = connect(make_server(env=env))
    handler = "return { body = json.encode(event) }"
    fires = api.handler(handler, cron_schedule=EVERY_MINUTE, cron_status="active", save_response=True)
    paused = api.handler(handler, cron_schedule=EVERY_MINUTE)
    disabled = api.handler(handler, cron_schedule=EVERY_MINUTE, cron_status="active", disabled=True)
    gone = api.handler(handler, cron_schedule=EVERY_MINUTE, cron_status="active")
    moved = api.handler(handler, cron_schedule=EVERY_MINUTE, cron_status="active")
    fails = api.function("function handler() error('by the clock') end", cron_schedule=EVERY_MINUTE, cron_status="active")
    assert gone.delete().status_code == 204
    moved.update(cron_schedule="0 0 1 1 *")
    wait_until(lambda: [one["status"] for one in fires.executions()] == ["success"], "a tick", 90)
    wait_until(lambda: [one["status"] for one in fails.executions()] == ["error"], "the other", 30)
    (run,) = fires.executions()
    assert run["trigger"] == "cron"
    kept = json.loads(api.get(f"/api/executions/{run['id']}")["response_json"])
    event = json.loads(kept["body"])
    due = int(event["headers"]["X-Cron-Scheduled-Time"])
    assert due % 60 == 0 and 0 <= run["created_at"] - due < 60
    assert event["headers"] == {
        "Content-Type": "application/json",
        "X-Trigger": "cron",
        "X-Cron-Schedule": EVERY_MINUTE,
        "X-Cron-Function-Id": fires.id,
        "X-Cron-Function-Name": fires.created["name"],
        "X-Cron-Scheduled-Time": str(due),
    }
    assert (event["method"], event["path"], event["relativePath"], event["body"]) == ("POST", f"/fn/{fires.id}", "/", "")
    assert api.get(f"/api/executions/{fails.executions()[0]['id']}")["error_message"].startswith("Error at line 1: by the clock")
    assert [each.executions() for each in (paused, disabled, moved)] == [[], [], []]
    refused(api.send("GET", f"{gone.path}/executions"), 404, "Function not found")
