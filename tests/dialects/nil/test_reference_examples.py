"""Every example of the original API's reference, as printed: requests by curl, at the root and under the mount."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import shell
from tests.api import UUID, UUID4
from tests.dialects.nil.api import TIME
from tests.dialects.nil.sources import SUM
from tests.server import Server, wait_until

JSON = '-H "Content-Type: application/json"'
DIVIDE = """import { JSON } from "json-as";
export function handle(input: string): string {
  if (input == "{}") throw new Error("division by zero");
  return input;
}
"""
Curl = Callable[..., Any]


@pytest.fixture(scope="module")
def rooted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("rooted") / "data", "--root", "nil") as server:
        yield server


@pytest.fixture(params=["", "/nil"], ids=["at the root", "at the mount"])
def curl(request: pytest.FixtureRequest, rooted: Server, tmp_path: Path) -> Curl:
    """``curl("POST", "/functions", {...})``: the status and the parsed body."""
    base = f"http://localhost:{rooted.port}{request.param}"

    def run(method: str, path: str, body: object = None) -> tuple[int, Any]:
        (tmp_path / "body").write_text(json.dumps(body))
        data = f'{JSON} -d "$(cat body)"' if body is not None else ""
        output = shell.run(f"curl -i -X {method} {base}{path} {data}", tmp_path).replace("\r\n", "\n")
        head, _, text = output.partition("\n\n")
        return int(head.split()[1]), json.loads(text) if text else None

    return run


def register(curl: Curl, name: str, source: str) -> dict[str, Any]:
    fields = {"name": name, "description": "Adds two numbers", "language": "assemblyscript", "source": source}
    status, created = curl("POST", "/functions", fields)
    assert (status, set(created)) == (201, {"id", "name", "status", "createdAt"})
    assert UUID4.fullmatch(created["id"]) and TIME.fullmatch(created["createdAt"])
    assert (created["name"], created["status"]) == (name, "PENDING")
    wait_until(lambda: curl("GET", f"/functions/{created['id']}")[1]["status"] == "READY", "the build", 90)
    return dict(created)


def test_health(curl: Curl) -> None:
    assert curl("GET", "/health") == (200, {"status": "UP"})


def test_the_life_of_a_function(curl: Curl) -> None:
    created = register(curl, "add", SUM)
    path = f"/functions/{created['id']}"
    assert curl("GET", "/functions")[1][0] == {**created, "status": "READY"}

    status, whole = curl("GET", path)
    assert status == 200
    assert whole == {
        **created,
        "description": "Adds two numbers",
        "language": "assemblyscript",
        "source": SUM,
        "status": "READY",
        "compileError": None,
        "updatedAt": whole["updatedAt"],
    }

    status, reply = curl("POST", f"{path}/execute", {"input": {"a": 5, "b": 3}})
    assert (status, UUID.fullmatch(reply["id"]) is not None) == (200, True)
    expected = {"functionId": created["id"], "status": "COMPLETED", "output": {"sum": 8}, "errorMessage": None}
    assert reply == {"id": reply["id"], **expected, "createdAt": reply["createdAt"]}

    status, rows = curl("GET", f"{path}/executions")
    assert (status, rows) == (200, [{key: rows[0][key] for key in ("id", "status", "startedAt", "completedAt")}])
    assert (rows[0]["id"], rows[0]["status"]) == (reply["id"], "COMPLETED")

    status, execution = curl("GET", f"/executions/{reply['id']}")
    assert status == 200
    times = {key: execution[key] for key in ("startedAt", "completedAt", "createdAt")}
    assert {**reply, "input": {"a": 5, "b": 3}, **times}.items() <= execution.items()

    changed = {"name": "add-v2", "description": "Adds two numbers (improved)", "language": "assemblyscript", "source": SUM + "\n"}
    status, updated = curl("PUT", path, changed)
    assert (status, updated) == (200, {**whole, **changed, "status": "PENDING", "updatedAt": updated["updatedAt"]})

    assert curl("DELETE", path) == (204, None)
    assert curl("GET", path)[0] == 404


def test_an_error_of_the_code(curl: Curl) -> None:
    id = register(curl, "divide", DIVIDE)["id"]
    status, reply = curl("POST", f"/functions/{id}/execute", {"input": {}})
    assert (status, reply["status"], reply["output"]) == (200, "FAILED", None)
    assert reply["errorMessage"] == "Runtime error: division by zero"


def test_inputs(curl: Curl) -> None:
    id = register(curl, "echo", "export function handle(input: string): string { return input; }")["id"]
    for body, output in (({"input": {"a": 1, "b": 2}}, {"a": 1, "b": 2}), ({"input": {}}, {}), ({}, {})):
        assert curl("POST", f"/functions/{id}/execute", body)[1]["output"] == output
    for value in ("hello", [1, 2, 3], 42):
        status, error = curl("POST", f"/functions/{id}/execute", {"input": value})
        assert (status, TIME.fullmatch(error["timestamp"]) is not None) == (400, True)
        assert error == {
            "timestamp": error["timestamp"],
            "status": 400,
            "error": "Bad Request",
            "message": "Input must be a JSON object",
        }


def test_an_unsupported_language(curl: Curl) -> None:
    status, error = curl("POST", "/functions", {"name": "x", "language": "cobol", "source": "x"})
    assert (status, error["error"]) == (415, "Unsupported Media Type")
