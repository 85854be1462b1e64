"""Every example of the original API's reference, as shell commands, at the root as printed there and under the mount."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import shell
from tests.api import UUID4
from tests.dialects.impuls.api import FULL_KEYS, TIME
from tests.server import Server

JSON = '-H "Content-Type: application/json"'

CREATE = """curl -X POST {base}/api/v1/functions {json} -d '{{
    "name": "{name}", "description": "Optional description", "runtime": "nodejs20", "handler": "index.handler",
    "code": "exports.handler = async (event) => {{ return {{ message: '"'"'Hello!'"'"' }}; }}",
    "memory_mb": 128, "timeout_sec": 30, "environment": {{"KEY": "value"}}}}'"""

UPDATE = """curl -X PUT {base}/api/v1/functions/{name} {json} -d '{{
    "description": "Updated description", "runtime": "nodejs20", "handler": "index.newHandler",
    "code": "exports.newHandler = async (event) => {{ return event.key1 + event.key2; }}",
    "memory_mb": 256, "timeout_sec": 60, "environment": {{"NEW_KEY": "new_value"}}}}'"""

HELLO = """curl -X POST {base}/api/v1/functions {json} -d '{{
    "name": "{name}", "runtime": "nodejs20", "handler": "index.handler",
    "code": "exports.handler = async (event) => {{ return {{ message: \\"Hello, \\" + (event.name || \\"World\\") }}; }}"}}'"""

WITH_VARIABLES = """curl -X POST {base}/api/v1/functions {json} -d '{{
    "name": "{name}", "runtime": "nodejs20", "handler": "index.handler",
    "code": "exports.handler = async () => {{ return {{ apiUrl: process.env.API_URL }}; }}",
    "environment": {{"API_URL": "https://api.example.com", "API_KEY": "secret-key"}}}}'"""

HANDLER = """curl -X POST {base}/api/v1/functions {json} -d '{{
    "name": "{name}", "runtime": "nodejs18", "handler": "index.handler", "code": "exports.handler = {code}"}}'"""

INVOKE = "curl -X POST '{base}/api/v1/functions/{name}/invoke{query}' {json} -d '{event}'"


@pytest.fixture(scope="module")
def rooted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("rooted") / "data", "--root", "impuls") as server:
        yield server


@pytest.fixture(params=["", "/impuls"], ids=["at the root", "at the mount"])
def curl(request: pytest.FixtureRequest, rooted: Server, tmp_path: Path) -> Callable[..., Any]:
    """Fill in a command, run it, parse what it prints."""
    base = f"http://localhost:{rooted.port}{request.param}"
    prefix = "root" if not request.param else "mount"

    def run(command: str, name: str = "", **values: str) -> Any:
        script = command.format(base=base, name=f"{prefix}-{name}", json=JSON, **values)
        return json.loads(shell.run(script, tmp_path))

    return run


def test_health(curl: Callable[..., Any]) -> None:
    assert curl("curl {base}/health") == {"status": "healthy", "service": "impuls"}


def test_the_life_of_a_function(curl: Callable[..., Any]) -> None:
    created = curl(CREATE, "my-function")
    assert set(created) >= FULL_KEYS
    assert UUID4.fullmatch(created["id"]) and TIME.fullmatch(created["created_at"])
    assert (created["description"], created["environment"]) == ("Optional description", {"KEY": "value"})

    listed = curl("curl {base}/api/v1/functions")
    assert listed["count"] == len(listed["functions"])
    assert listed["functions"][0]["id"] == created["id"]
    assert curl("curl {base}/api/v1/functions/{name}", "my-function") == created

    answer = curl(INVOKE, "my-function", query="", event='{"key1": "value1", "key2": "value2"}')
    assert (answer["status_code"], answer["body"], answer["logs"]) == (200, {"message": "Hello!"}, "")

    updated = curl(UPDATE, "my-function")
    assert (updated["id"], updated["handler"], updated["memory_mb"]) == (created["id"], "index.newHandler", 256)
    assert updated["updated_at"] > created["updated_at"]
    answer = curl(INVOKE, "my-function", query="?local=true", event='{"key1": "value1", "key2": "value2"}')
    assert answer["body"] == "value1value2"

    deleted = curl("curl -X DELETE {base}/api/v1/functions/{name}", "my-function")
    assert deleted == {"message": "Function deleted successfully", "name": created["name"]}
    missing = curl("curl {base}/api/v1/functions/{name}", "my-function")
    assert missing == {"error": True, "message": f"function '{created['name']}' not found"}


def test_hello_world(curl: Callable[..., Any]) -> None:
    assert curl(HELLO, "hello-world")["name"].endswith("hello-world")
    assert curl(INVOKE, "hello-world", query="", event='{"name": "Developer"}')["body"] == {"message": "Hello, Developer"}
    assert curl("curl -X POST {base}/api/v1/functions/{name}/invoke", "hello-world")["body"] == {"message": "Hello, World"}


def test_environment_variables(curl: Callable[..., Any]) -> None:
    assert curl(WITH_VARIABLES, "secret-function")["environment"]["API_KEY"] == "secret-key"
    answer = curl(INVOKE, "secret-function", query="", event="{}")
    assert answer["body"] == {"apiUrl": "https://api.example.com"}


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("async", 'async (event, context) => {{ return {{ statusCode: 200, body: {{ message: \\"Success\\" }} }}; }}'),
        (
            "callback",
            '(event, context, callback) => {{ callback(null, {{ statusCode: 200, body: {{ message: \\"Success\\" }} }}); }}',
        ),
    ],
)
def test_handler_formats(curl: Callable[..., Any], name: str, code: str) -> None:
    curl(HANDLER.replace("{code}", code), name)
    answer = curl(INVOKE, name, query="", event="{}")
    assert (answer["status_code"], answer["body"]) == (200, {"message": "Success"})


def test_the_context(curl: Callable[..., Any]) -> None:
    code = "async (event, context) => ({{ ...context, left: context.getRemainingTimeInMillis() }})"
    name = curl(HANDLER.replace("{code}", code), "context")["name"]
    body = curl(INVOKE, "context", query="", event="{}")["body"]
    assert (body["functionName"], body["functionVersion"], body["memoryLimitInMB"]) == (name, "$LATEST", 128)
    assert body["logGroupName"] == f"/impuls/{name}"
    assert body["logStreamName"].endswith("/" + body["awsRequestId"])
    assert 0 < body["left"] <= 30000


def test_the_error_envelope(curl: Callable[..., Any]) -> None:
    code = 'async () => {{ console.error(\\"Something went wrong\\"); throw new Error(\\"Error message\\"); }}'
    curl(HANDLER.replace("{code}", code), "failing")
    answer = curl(INVOKE, "failing", query="", event="{}")
    assert (answer["status_code"], answer["error"]) == (500, "Error message")
    assert answer["logs"] == "[ERROR] Something went wrong\n[ERROR] Error message"
    assert "body" not in answer
