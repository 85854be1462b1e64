"""Histories: complete when the answer is there, filtered, paged (contract 2.7, 4.2)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.api import together
from tests.dialects.fluxbase.api import Api, Function, refused

LIMIT = "limit must be between 1 and 1000"
OFFSET = "offset must be a non-negative integer"
STATUS = "status must be one of: success, error, timeout"
TRIGGER = "trigger_type must be one of: http, cron, trigger"


@pytest.fixture(scope="module")
def mixed(api: Api) -> Iterator[tuple[Function, list[str]]]:
    """A function with a history of its own: nine runs, three of each kind; their ids, oldest first."""
    code = "const n = +req.body; if (n % 3 === 1) throw new Error('odd'); if (n % 3 === 2) while (true); return {n}"
    function = api.handler(code, timeout_seconds=1)
    ids = [function.invoke(str(number)).headers["x-execution-id"] for number in range(9)]
    yield function, ids


def test_newest_first(mixed: tuple[Function, list[str]]) -> None:
    function, ids = mixed
    rows = function.history()
    assert [row["id"] for row in rows] == ids[::-1]
    assert [row["status"] for row in rows] == ["timeout", "error", "success"] * 3
    assert [row["status_code"] for row in rows] == [408, 500, 200] * 3
    assert rows[-1]["result"] == '{"n":0}'
    assert {row["function_id"] for row in rows} == {function.created["id"]}
    assert {row["trigger_type"] for row in rows} == {"http"}
    assert all(row["duration_ms"] >= 1000 for row in rows[::3])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?limit=2", [8, 7]),
        ("?limit=2&offset=3", [5, 4]),
        ("?offset=8", [0]),
        ("?offset=9", []),
        ("?offset=99999999999999999999999999", []),
        ("?status=error", [7, 4, 1]),
        ("?status=success&limit=1&offset=1", [3]),
        ("?status=timeout&trigger_type=http&offset=2", [2]),
        ("?trigger_type=http&limit=1000", [8, 7, 6, 5, 4, 3, 2, 1, 0]),
        ("?trigger_type=cron", []),
        ("?trigger_type=trigger&status=error", []),
        ("?unknown=1&limit=1", [8]),
    ],
)
def test_filters_come_before_offset_and_limit(mixed: tuple[Function, list[str]], query: str, expected: list[int]) -> None:
    function, ids = mixed
    assert [row["id"] for row in function.history(query)] == [ids[number] for number in expected]


@pytest.mark.parametrize(
    ("query", "error"),
    [
        *((f"?limit={value}", LIMIT) for value in ("0", "1001", "-1", "x", "", "1.0", "1e2", "%2B5", "%D9%A3", "9" * 5000)),
        *((f"?offset={value}", OFFSET) for value in ("-1", "x", "", "1.5", "0x10")),
        *((f"?status={value}", STATUS) for value in ("", "Success", "running", "queued", "error,timeout")),
        *((f"?trigger_type={value}", TRIGGER) for value in ("", "HTTP", "async")),
        ("?limit=0&offset=-1&status=x", LIMIT),
    ],
)
def test_parameters_that_make_no_sense(mixed: tuple[Function, list[str]], query: str, error: str) -> None:
    function, _ = mixed
    refused(function.api.send("GET", f"{function.path}/executions{query}"), 400, error)


def test_the_function_is_looked_up_first(api: Api) -> None:
    refused(api.send("GET", "/api/v1/functions/nobody/executions?limit=0"), 404, "Function not found")


def test_a_new_function_has_none(api: Api) -> None:
    assert api.send("GET", f"{api.function().path}/executions").text == "[]"


def test_fifty_by_default(api: Api) -> None:
    function = api.function()
    together(lambda _: [function() for _ in range(10)], range(6))
    assert (len(function.history()), len(function.history("?limit=1000"))) == (50, 60)


def test_a_row_is_there_before_its_answer(api: Api) -> None:
    function = api.handler("return req.body")

    def call_and_look(number: int) -> None:
        for _ in range(5):
            row = function.row(function.invoke(str(number)).headers["x-execution-id"])
            assert row["result"] == f'"{number}"'

    together(call_and_look, range(8))


def test_a_disabled_function_keeps_its_history(api: Api) -> None:
    function = api.function()
    function()
    function.update(enabled=False)
    refused(function.invoke(), 404, "Function not found or disabled")
    assert len(function.history()) == 1
