"""Every example of the original API's reference, as shell commands, at the root as printed there and under the mount."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import shell
from tests.dialects.fluxbase.api import is_function, is_row
from tests.server import Server

HEADERS = '-H "Authorization: Bearer $YOUR_ACCESS_TOKEN" -H "Content-Type: application/json"'

CREATE = """curl -s -X POST {base}/api/v1/functions {headers} -d '{{
  "name": "{name}",
  "description": "Sends welcome email to new users",
  "code": "async function handler(req) {{ const data = JSON.parse(req.body); \
return {{ status: 200, body: JSON.stringify({{ sent: true }}) }}; }}",
  "enabled": true,
  "timeout_seconds": 30,
  "allow_net": true,
  "allow_env": true
}}'"""

UPDATE = """curl -s -X PUT {base}/api/v1/functions/{name} {headers} -d '{{
  "code": "async function handler(req) {{ /* updated code */ }}",
  "enabled": true,
  "timeout_seconds": 60
}}'"""

INVOKE = """curl -s -X POST {base}/api/v1/functions/{name}/invoke {headers} -d '{{
  "email": "user@example.com",
  "name": "Alice",
  "action": "send_welcome"
}}'"""

GET = "curl -s {base}/api/v1/functions/{name}{query} {headers}"
DELETE = "curl -s -X DELETE {base}/api/v1/functions/{name} {headers}"
REPLACE = """curl -s -X PUT {base}/api/v1/functions/{name} {headers} -d '{{"code": "{code}"}}'"""


@pytest.fixture(scope="module")
def rooted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("rooted") / "data", "--root", "fluxbase") as server:
        yield server


@pytest.fixture(scope="module")
def token(rooted: Server) -> str:
    return rooted.token()


@pytest.fixture(params=["", "/fluxbase"], ids=["at the root", "at the mount"])
def curl(request: pytest.FixtureRequest, rooted: Server, token: str, tmp_path: Path) -> Callable[..., str]:
    """Fill in a command and run it; what it prints."""
    base = f"http://localhost:{rooted.port}{request.param}"
    prefix = "root" if not request.param else "mount"

    def run(command: str, name: str = "send-welcome-email", **values: str) -> str:
        script = command.format(base=base, name=f"{prefix}-{name}", headers=HEADERS, **{"query": "", **values})
        return shell.run(f"YOUR_ACCESS_TOKEN={token}\n{script}", tmp_path)

    return run


def test_the_life_of_a_function(curl: Callable[..., str]) -> None:
    created = is_function(json.loads(curl(CREATE)))
    documented = {"version": 1, "enabled": True, "timeout_seconds": 30, "memory_limit_mb": 128, "allow_net": True}
    documented |= {"allow_env": True, "allow_read": False, "allow_write": False, "cron_schedule": None}
    assert {key: created[key] for key in documented} == documented
    assert created["description"] == "Sends welcome email to new users"

    listed = json.loads(curl("curl -s {base}/api/v1/functions {headers}"))
    assert listed[0] == {key: value for key, value in created.items() if key != "code"}
    assert json.loads(curl(GET)) == created
    assert json.loads(curl(INVOKE)) == {"sent": True}

    updated = is_function(json.loads(curl(UPDATE)))
    assert (updated["version"], updated["timeout_seconds"]) == (2, 60)
    assert updated["code"] == "async function handler(req) { /* updated code */ }"
    assert curl(INVOKE) == "null"

    rows = [is_row(row) for row in json.loads(curl(GET, query="/executions"))]
    assert [(row["status"], row["status_code"], row["result"]) for row in rows] == [
        ("success", 200, "null"),
        ("success", 200, '{"sent":true}'),
    ]
    assert curl(GET, query="/executions?limit=10'&'status=error") == "[]"
    assert json.loads(curl(GET, query="/executions?limit=50'&'offset=1")) == rows[1:]

    assert curl(DELETE) == ""
    assert json.loads(curl(DELETE)) == json.loads(curl(GET)) == {"error": "Function not found"}


def test_failures(curl: Callable[..., str]) -> None:
    curl(CREATE, "failing")
    curl(REPLACE, "failing", code="async function handler(req) { console.error(1); return someVariable; }")
    answer: dict[str, Any] = json.loads(curl(INVOKE, "failing"))
    assert answer["error"] == "Function execution failed"
    assert answer["message"] == "ReferenceError: someVariable is not defined"
    assert answer["function"].endswith("-failing")
    (row,) = json.loads(curl(GET, "failing", query="/executions?status=error'&'limit=20"))
    assert (row["id"], row["status_code"], row["result"]) == (answer["execution_id"], 500, None)
    assert (row["logs"], row["error_message"]) == ("console.error: 1", answer["message"])


def test_the_documented_request_and_response(curl: Callable[..., str]) -> None:
    curl(CREATE, "schema")
    body = "req.url + req.headers.host + req.user_id + req.body"
    code = f"async function handler(req) {{ return {{ status: 201, headers: {{ a: req.method }}, body: {body} }} }}"
    curl(REPLACE, "schema", code=code)
    answer = curl("curl -s -i '{base}/api/v1/functions/{name}/invoke?a=1' {headers} -d '{{}}'", "schema")
    head, _, body = answer.replace("\r", "").partition("\n\n")
    assert head.startswith("HTTP/1.1 201") and "\na: POST" in head
    assert body.startswith("http://localhost:") and body.endswith("default{}")


def test_code_with_an_ellipsis_can_be_kept(curl: Callable[..., str]) -> None:
    curl(CREATE, "ellipsis")
    code = "async function handler(req) { ... }"
    assert json.loads(curl(REPLACE, "ellipsis", code=code))["code"] == code
    assert json.loads(curl(INVOKE, "ellipsis"))["message"].startswith("SyntaxError: ")
