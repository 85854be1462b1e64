"""The Impuls API as tests use it: requests, functions, and what must hold for every answer."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx2

from tests.api import UUID, Client, unique

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
FULL_KEYS = {
    *("id", "name", "description", "runtime", "handler", "code", "memory_mb"),
    *("timeout_sec", "environment", "created_at", "updated_at"),
}
FUNCTIONS = "/api/v1/functions"
TRIVIAL = "exports.handler = async () => 'hi'"


def refused(response: httpx2.Response, status: int, message: str | None = None) -> str:
    """Check the plain error form and return its message."""
    assert response.status_code == status, response.text[:500]
    assert response.headers["content-type"].split(";")[0] == "application/json"
    body = response.json()
    assert body["error"] is True
    assert isinstance(body["message"], str) and body["message"]
    if message is not None:
        assert body["message"] == message
    return str(body["message"])


def envelope_of(response: httpx2.Response) -> dict[str, Any]:
    """Check what holds for every invocation envelope and return it."""
    assert response.headers["content-type"].split(";")[0] == "application/json"
    envelope: dict[str, Any] = response.json()
    status = envelope.get("status_code")
    assert type(status) is int, f"not an envelope: {response.status_code} {response.text[:500]}"
    assert response.status_code == (200 if status < 200 else status)
    assert type(envelope["duration_ms"]) is int and envelope["duration_ms"] >= 0
    assert response.headers["x-impuls-duration"] == str(envelope["duration_ms"])
    assert UUID.fullmatch(response.headers["x-execution-id"])
    assert isinstance(envelope["logs"], str) and not envelope["logs"].endswith("\n")
    if "error" in envelope:
        assert status == 500 and not {"body", "headers"} & set(envelope)
        assert ("\n" + envelope["logs"]).endswith(f"\n[ERROR] {envelope['error']}")
    else:
        assert "body" in envelope
    return envelope


class Api(Client):
    """A client of one account."""

    def post(self, fields: object) -> httpx2.Response:
        """An attempt to create a function."""
        return self.send("POST", FUNCTIONS, json.dumps(fields))

    def function(self, code: str = TRIVIAL, **fields: Any) -> Function:
        """A new Node.js function, unless ``runtime`` says otherwise."""
        body = {"name": unique(), "runtime": "nodejs20", "handler": "index.handler", "code": code, **fields}
        response = self.post(body)
        assert response.status_code == 201, response.text
        return Function(self, response.json())

    def node(self, body: str, **fields: Any) -> Function:
        """A function whose async handler has this body; ``event``, ``context`` and ``require`` are in scope."""
        return self.function(f"exports.handler = async (event, context) => {{\n{body}\n}}", **fields)

    def python(self, code: str, **fields: Any) -> Function:
        return self.function(code, **{"runtime": "python311", **fields})

    def names(self) -> list[str]:
        return [item["name"] for item in self.send("GET", FUNCTIONS).json()["functions"]]


class Function:
    """A function that was created. Calling it returns the body of a successful answer."""

    def __init__(self, api: Api, created: dict[str, Any]) -> None:
        self.api = api
        self.created = created
        self.name: str = created["name"]
        self.path = f"{FUNCTIONS}/{self.name}"

    def post(self, event: object = None, query: str = "") -> httpx2.Response:
        """An invocation, whatever comes of it. ``event`` None sends no body."""
        text = None if event is None else json.dumps(event)
        return self.api.send("POST", f"{self.path}/invoke{query}", text)

    def invoke(self, event: object = None, query: str = "") -> dict[str, Any]:
        """The checked envelope of an invocation."""
        return envelope_of(self.post(event, query))

    def invoke_text(self, text: str | bytes) -> dict[str, Any]:
        """As ``invoke``, with exactly this text as the body."""
        return envelope_of(self.api.send("POST", f"{self.path}/invoke", text))

    def __call__(self, event: object = None) -> Any:
        envelope = self.invoke(event)
        assert envelope["status_code"] == 200, envelope
        return envelope["body"]

    def error(self, event: object = None) -> str:
        envelope = self.invoke(event)
        assert "error" in envelope, envelope
        return str(envelope["error"])

    def logs(self, event: object = None) -> str:
        return str(self.invoke(event)["logs"])

    def get(self) -> dict[str, Any]:
        response = self.api.send("GET", self.path)
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    def update(self, method: str = "PUT", **fields: Any) -> dict[str, Any]:
        response = self.put(fields, method)
        assert response.status_code == 200, response.text
        updated: dict[str, Any] = response.json()
        return updated

    def put(self, fields: object, method: str = "PUT") -> httpx2.Response:
        """An attempt to update."""
        return self.api.send(method, self.path, json.dumps(fields))

    def delete(self) -> httpx2.Response:
        return self.api.send("DELETE", self.path)

    def executions(self, query: str = "") -> list[dict[str, Any]]:
        response = self.api.send("GET", f"{self.path}/executions{query}")
        assert response.status_code == 200, response.text
        answer = response.json()
        assert answer["count"] == len(answer["executions"])
        found: list[dict[str, Any]] = answer["executions"]
        return found
