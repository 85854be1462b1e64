"""The Fluxbase API as tests use it: requests, functions, and what must hold for every answer."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx2

from tests.api import UUID, UUID4, Client, unique

FUNCTIONS = "/api/v1/functions"
TRIVIAL = "export default () => 'hi'"
UNAUTHENTICATED = "Missing or invalid authentication token"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
ITEM_KEYS = {
    *("id", "name", "description", "version", "enabled", "timeout_seconds", "memory_limit_mb"),
    *("allow_net", "allow_env", "allow_read", "allow_write", "allow_unauthenticated", "cron_schedule"),
    *("created_at", "updated_at", "created_by"),
}
FULL_KEYS = ITEM_KEYS | {"code"}
ROW_KEYS = {
    *("id", "function_id", "trigger_type", "status", "status_code", "duration_ms"),
    *("result", "logs", "error_message", "executed_at", "completed_at"),
}


def refused(response: httpx2.Response, status: int, error: str) -> dict[str, Any]:
    """Check an error of the server's own; its body."""
    assert response.status_code == status, response.text[:500]
    assert response.headers["content-type"] == "application/json"
    body: dict[str, Any] = response.json()
    assert body["error"] == error
    assert (response.headers.get("www-authenticate") == "Bearer") == (status == 401)
    return body


def is_function(value: dict[str, Any]) -> dict[str, Any]:
    """Check what holds for every function object."""
    assert set(value) == FULL_KEYS
    assert UUID4.fullmatch(value["id"])
    assert TIME.fullmatch(value["created_at"]) and TIME.fullmatch(value["updated_at"])
    return value


def is_row(row: dict[str, Any]) -> dict[str, Any]:
    """Check what holds for every row of a history."""
    assert set(row) == ROW_KEYS
    assert UUID.fullmatch(row["id"]) and UUID4.fullmatch(row["function_id"])
    assert TIME.fullmatch(row["executed_at"]) and TIME.fullmatch(row["completed_at"])
    assert row["executed_at"] <= row["completed_at"]
    assert type(row["duration_ms"]) is int and row["duration_ms"] >= 0
    assert isinstance(row["logs"], str)
    assert (row["status"] == "success") == (row["error_message"] is None)
    assert row["status"] == "success" or row["result"] is None
    return row


class Api(Client):
    """A client of one account, or of none."""

    def post(self, fields: object) -> httpx2.Response:
        """An attempt to create a function."""
        return self.send("POST", FUNCTIONS, json.dumps(fields))

    def function(self, code: str = TRIVIAL, **fields: Any) -> Function:
        """A new function, enabled."""
        response = self.post({"name": unique(), "code": code, "enabled": True, **fields})
        assert response.status_code == 201, response.text
        return Function(self, is_function(response.json()))

    def handler(self, body: str, **fields: Any) -> Function:
        """A function whose async handler has this body; ``req`` is in scope."""
        return self.function(f"export default async (req: any) => {{\n{body}\n}}", **fields)

    def items(self) -> list[dict[str, Any]]:
        response = self.send("GET", FUNCTIONS)
        assert response.status_code == 200, response.text
        listed: list[dict[str, Any]] = response.json()
        assert all(set(item) == ITEM_KEYS for item in listed)
        return listed

    def names(self) -> list[str]:
        return [item["name"] for item in self.items()]


class Function:
    """A function that was created. Calling it with a JSON value returns the value of a reply 200."""

    def __init__(self, api: Api, created: dict[str, Any]) -> None:
        self.api = api
        self.created = created
        self.name: str = created["name"]
        self.path = f"{FUNCTIONS}/{self.name}"

    def by(self, api: Api) -> Function:
        """The same function, as another client sees it."""
        return Function(api, self.created)

    def invoke(self, body: str | bytes | None = None, method: str = "POST", query: str = "", **options: Any) -> httpx2.Response:
        """An invocation, whatever comes of it."""
        return self.api.send(method, f"{self.path}/invoke{query}", body, **options)

    def __call__(self, value: object = None) -> Any:
        response = self.invoke(json.dumps(value))
        assert response.status_code == 200, response.text
        return response.json()

    def failed(self, value: object = None, status: int = 500, error: str = "Function execution failed") -> str:
        """An invocation that must fail; checks its answer and its row, returns the message."""
        response = self.invoke(json.dumps(value))
        body = refused(response, status, error)
        assert set(body) == {"error", "message", "function", "execution_id"}
        assert body["function"] == self.name
        assert response.headers["x-execution-id"] == body["execution_id"]
        row = self.row(body["execution_id"])
        assert (row["status"], row["status_code"]) == ("timeout" if status == 408 else "error", status)
        assert row["error_message"] == body["message"]
        return str(body["message"])

    def logs(self, value: object = None) -> str:
        """What one invocation logged."""
        return str(self.row(self.invoke(json.dumps(value)).headers["x-execution-id"])["logs"])

    def get(self) -> dict[str, Any]:
        response = self.api.send("GET", self.path)
        assert response.status_code == 200, response.text
        return is_function(response.json())

    def put(self, fields: object) -> httpx2.Response:
        """An attempt to update."""
        return self.api.send("PUT", self.path, json.dumps(fields))

    def update(self, **fields: Any) -> dict[str, Any]:
        response = self.put(fields)
        assert response.status_code == 200, response.text
        return is_function(response.json())

    def delete(self) -> httpx2.Response:
        return self.api.send("DELETE", self.path)

    def history(self, query: str = "") -> list[dict[str, Any]]:
        response = self.api.send("GET", f"{self.path}/executions{query}")
        assert response.status_code == 200, response.text
        rows: list[dict[str, Any]] = response.json()
        return [is_row(row) for row in rows]

    def row(self, execution_id: str) -> dict[str, Any]:
        """The row of one invocation, which is there once its answer is."""
        found = [row for row in self.history("?limit=1000") if row["id"] == execution_id]
        assert len(found) == 1
        return found[0]
