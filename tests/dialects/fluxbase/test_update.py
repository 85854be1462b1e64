"""Updating functions: versions that count, fields that stay, refusals that change nothing (contract 2.4)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api import together
from tests.dialects.fluxbase.api import FUNCTIONS, TRIVIAL, Api, refused

MIB = 1048576


def test_only_what_is_given_changes(api: Api) -> None:
    function = api.function(description="first", timeout_seconds=5, allow_net=False, cron_schedule="@daily")
    updated = function.update(description="second", memory_limit_mb=256, allow_read=True)
    changed = {"description": "second", "memory_limit_mb": 256, "allow_read": True, "version": 2}
    assert updated == {**function.created, **changed, "updated_at": updated["updated_at"]}
    assert updated["updated_at"] > function.created["updated_at"]
    assert function.get() == updated
    assert {**updated, "code": None} in [{**item, "code": None} for item in api.items()]


def test_every_accepted_update_counts(api: Api) -> None:
    function = api.function()
    for version, fields in enumerate([{}, {"code": TRIVIAL}, {"unknown": 1}, {"enabled": None}], 2):
        assert function.update(**fields)["version"] == version
    assert function.get()["updated_at"] > function.created["created_at"] == function.get()["created_at"]


def test_what_an_update_ignores(api: Api) -> None:
    function = api.function()
    ignored = {"name": "other", "id": 7, "version": "x", "created_at": None, "updated_at": [], "created_by": {}, "namespace": "x"}
    updated = function.update(**ignored)
    assert updated == {**function.created, "version": 2, "updated_at": updated["updated_at"]}
    hostile = {"name = 'x'; DROP TABLE functions; --": 1, "__proto__": {"enabled": False}, "settings": {"enabled": False}}
    assert function.update(**hostile)["enabled"] is True


def test_null_clears_three_fields_and_no_other(api: Api) -> None:
    function = api.function(
        description="x", cron_schedule="@hourly", allow_unauthenticated=True, timeout_seconds=7, allow_read=True
    )
    updated = function.update(**dict.fromkeys(function.created))
    cleared = {"description": None, "cron_schedule": None, "allow_unauthenticated": None, "version": 2}
    assert updated == {**function.created, **cleared, "updated_at": updated["updated_at"]}


def test_an_empty_schedule_clears(api: Api) -> None:
    assert api.function(cron_schedule="@hourly").update(cron_schedule="")["cron_schedule"] is None


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"code": ""}, "Function code is required"),
        ({"code": "x" * (MIB + 1)}, "Function code too large (max 1048576 bytes)"),
        ({"timeout_seconds": 0}, "timeout_seconds must be between 1 and 300"),
        ({"memory_limit_mb": 2048, "description": "new"}, "memory_limit_mb must be between 64 and 1024"),
        ({"cron_schedule": "every day", "enabled": False}, "Invalid cron schedule"),
        ({"timeout_seconds": "30"}, "Invalid request body"),
        ({"enabled": 0}, "Invalid request body"),
        ([], "Invalid request body"),
    ],
)
def test_a_refused_update_changes_nothing(api: Api, fields: Any, error: str) -> None:
    function = api.function()
    refused(function.put(fields), 400, error)
    assert function.get() == function.created


def test_the_body_is_judged_before_the_name(api: Api) -> None:
    path = f"{FUNCTIONS}/nobody"
    refused(api.send("PUT", path, "{"), 400, "Invalid request body")
    refused(api.send("PUT", path, '{"timeout_seconds": 0}'), 400, "timeout_seconds must be between 1 and 300")
    refused(api.send("PUT", path, " " * (5 * MIB + 1)), 413, "Request body too large")
    refused(api.send("PUT", path, "{}"), 404, "Function not found")


def test_simultaneous_updates_are_all_counted_and_none_is_lost(api: Api) -> None:
    function = api.function()
    fields: list[dict[str, Any]] = [
        {"description": "new"},
        {"timeout_seconds": 99},
        {"memory_limit_mb": 99},
        {"allow_net": False},
        {"allow_env": False},
        {"allow_read": True},
        {"allow_write": True},
        {"allow_unauthenticated": True},
        {"cron_schedule": "@yearly"},
        {"code": "2"},
        {},
        {},
    ]
    answers = together(lambda one: function.update(**one)["version"], fields)
    assert sorted(answers) == list(range(2, 14))
    whole = {key: value for one in fields for key, value in one.items()}
    assert {key: function.get()[key] for key in whole} == whole
