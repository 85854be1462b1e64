"""The Lunar API as tests use it: requests, functions, executions, and what must hold for every answer."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx2

from tests.api import Client, unique

ID = re.compile(r"[0-9a-v]{20}")
TRIVIAL = "function handler(ctx, event)\n  return { body = 'hi' }\nend\n"
NOBODY = "0" * 20
CORS = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "GET, POST, PUT, PATCH, DELETE, OPTIONS",
    "access-control-allow-headers": "Content-Type, Authorization",
    "access-control-expose-headers": "X-Function-Id, X-Function-Version-Id, X-Execution-Id, X-Execution-Duration-Ms",
}
VERSION_KEYS = {"id", "function_id", "version", "code", "created_at", "is_active"}
FUNCTION_KEYS = {
    *("id", "name", "env_vars", "disabled", "cron_status", "save_response", "created_at", "updated_at"),
    *("scoped_data", "global_data", "active_version"),
}
OPTIONAL_KEYS = {"description", "retention_days", "cron_schedule"}


def has_cors(response: httpx2.Response) -> httpx2.Response:
    """Check what every reply of the server's own carries."""
    assert {name: response.headers.get(name) for name in CORS} == CORS
    assert "access-control-allow-credentials" not in response.headers
    return response


def refused(response: httpx2.Response, status: int, message: str) -> httpx2.Response:
    """Check an error of the server's own."""
    assert (response.status_code, response.text) == (status, json.dumps({"error": message}, separators=(",", ":")))
    assert response.headers["content-type"] == "application/json"
    return has_cors(response)


def done(response: httpx2.Response, status: int = 200) -> Any:
    """Check a success; its body."""
    assert response.status_code == status, response.text
    has_cors(response)
    if response.request.url.path.partition("/api/")[1]:
        assert response.headers["cache-control"] == "no-store"
    return response.json() if response.content else None


def is_version(value: dict[str, Any]) -> dict[str, Any]:
    """Check what holds for every version."""
    assert set(value) == VERSION_KEYS
    assert value["id"] == f"ver_{value['function_id']}_v{value['version']}"
    return value


def is_function(value: dict[str, Any]) -> dict[str, Any]:
    """Check what holds for every function."""
    assert FUNCTION_KEYS <= set(value) <= FUNCTION_KEYS | OPTIONAL_KEYS
    assert ID.fullmatch(value["id"])
    assert type(value["created_at"]) is int and value["created_at"] <= value["updated_at"]
    assert is_version(value["active_version"])["is_active"] is True
    return value


class Api(Client):
    """A client of one account, or of none."""

    def request(self, method: str, path: str, value: object = None, **options: Any) -> httpx2.Response:
        """A request whose body is this value as JSON."""
        return self.send(method, path, None if value is None else json.dumps(value), **options)

    def get(self, path: str) -> Any:
        return done(self.send("GET", path))

    def function(self, code: str = TRIVIAL, **fields: Any) -> Function:
        """A new function, with the rest of ``fields`` set by an update."""
        body = {"name": fields.pop("name", None) or unique(), "code": code}
        function = Function(self, is_function(done(self.request("POST", "/api/functions", body))))
        if fields:
            function.update(**fields)
        return function

    def handler(self, body: str, **fields: Any) -> Function:
        """A function whose handler has this body."""
        return self.function(f"function handler(ctx, event)\n{body}\nend", **fields)


class Function:
    """A function that was created."""

    def __init__(self, api: Api, created: dict[str, Any]) -> None:
        self.api = api
        self.created = created
        self.id: str = created["id"]
        self.path = f"/api/functions/{self.id}"

    def by(self, api: Api) -> Function:
        """The same function, as another client sees it."""
        return Function(api, self.created)

    def version_id(self, number: int) -> str:
        return f"ver_{self.id}_v{number}"

    def get(self) -> dict[str, Any]:
        return is_function(self.api.get(self.path))

    def put(self, fields: object) -> httpx2.Response:
        """An attempt to update."""
        return self.api.request("PUT", self.path, fields)

    def update(self, **fields: Any) -> None:
        response = self.put(fields)
        assert done(response) is None

    def delete(self) -> httpx2.Response:
        return self.api.send("DELETE", self.path)

    def activate(self, number: int) -> httpx2.Response:
        return self.api.send("POST", f"{self.path}/versions/{self.version_id(number)}/activate")

    def delete_version(self, number: int) -> httpx2.Response:
        return self.api.send("DELETE", f"{self.path}/versions/{self.version_id(number)}")

    def versions(self, query: str = "") -> list[dict[str, Any]]:
        return [is_version(one) for one in self.api.get(f"{self.path}/versions{query}")["versions"]]

    def run(self, body: str | bytes | None = None, method: str = "POST", path: str = "", **options: Any) -> httpx2.Response:
        """A run, whatever comes of it."""
        return self.api.send(method, f"/fn/{self.id}{path}", body, **options)

    def __call__(self, value: object = None) -> Any:
        """A run that must succeed; the JSON it answers with."""
        response = self.run(json.dumps(value))
        assert response.status_code == 200, (response.text, self.execution(response))
        return response.json()

    def failed(self, body: str | bytes | None = None) -> str:
        """A run that must fail; its error message. The log tells its first line."""
        response = self.run(body)
        refused(response, 500, "Function execution failed")
        execution = self.execution(response)
        assert execution["status"] == "error"
        message = str(execution["error_message"])
        rows = self.logs(response)
        assert (rows[-1]["level"], rows[-1]["message"]) == ("error", message.partition("\n")[0])
        return message

    def execution(self, response: httpx2.Response) -> dict[str, Any]:
        """The record of a run."""
        found: dict[str, Any] = self.api.get(f"/api/executions/{response.headers['x-execution-id']}")
        return found

    def logs(self, response: httpx2.Response, query: str = "?limit=100") -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.api.get(f"/api/executions/{response.headers['x-execution-id']}/logs{query}")["logs"]
        return rows

    def executions(self, query: str = "") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api.get(f"{self.path}/executions{query}")["executions"]
        return found
