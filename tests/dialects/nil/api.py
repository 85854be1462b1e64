"""The NIL API as tests use it: requests, functions, executions, and what must hold for every answer."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx2

from spinney.app import make_compilers
from tests.api import UUID, UUID4, Client
from tests.dialects.nil.sources import waiting
from tests.server import wait_until

FUNCTIONS = "/functions"
EXECUTIONS = "/executions"
ECHO = "export function handle(input: string): string { return input; }"
NOBODY = "00000000-0000-4000-8000-000000000000"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
JSON = {"content-type": "application/json"}
BUILD_S = 100.0
LANGUAGES = [name for compiler in make_compilers() for name in compiler.languages if name in compiler.installed()]
"""What this machine can compile."""
ERRORS = {
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Payload Too Large",
    415: "Unsupported Media Type",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


def unsupported(shown: str) -> str:
    """The message that refuses a language."""
    return f"Unsupported language: {shown}. Supported: [{', '.join(LANGUAGES)}]"


def refused(response: httpx2.Response, status: int, message: str | None = None) -> str:
    """Check the one form of all errors; its message."""
    assert response.status_code == status, response.text[:500]
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"timestamp", "status", "error", "message"}
    assert TIME.fullmatch(body["timestamp"])
    assert (body["status"], body["error"]) == (status, ERRORS[status])
    if message is not None:
        assert body["message"] == message
    return str(body["message"])


def is_item(value: dict[str, Any]) -> dict[str, Any]:
    """Check what holds for a function in a list."""
    assert set(value) == {"id", "name", "status", "createdAt"}
    assert UUID4.fullmatch(value["id"]) and TIME.fullmatch(value["createdAt"])
    assert value["status"] in ("PENDING", "COMPILING", "READY", "FAILED")
    return value


def is_function(value: dict[str, Any]) -> dict[str, Any]:
    """Check what holds for a function whole."""
    is_item({key: value[key] for key in ("id", "name", "status", "createdAt")})
    assert set(value) == {
        *("id", "name", "description", "language", "source", "status", "compileError", "createdAt", "updatedAt"),
    }
    assert TIME.fullmatch(value["updatedAt"]) and value["updatedAt"] >= value["createdAt"]
    assert bool(value["compileError"]) == (value["status"] == "FAILED")
    return value


def is_execution(value: dict[str, Any]) -> dict[str, Any]:
    """Check what holds for an execution whole."""
    assert set(value) == {
        *("id", "functionId", "status", "input", "output", "errorMessage"),
        *("startedAt", "completedAt", "createdAt", "logs", "durationMs"),
    }
    assert UUID.fullmatch(value["id"]) and UUID4.fullmatch(value["functionId"])
    assert isinstance(value["input"], dict)
    assert isinstance(value["logs"], list) and all(isinstance(entry, str) for entry in value["logs"])
    times = [value[key] for key in ("createdAt", "startedAt", "completedAt") if value[key] is not None]
    assert times == sorted(times) and all(TIME.fullmatch(time) for time in times)
    over = value["status"] in ("COMPLETED", "FAILED")
    assert (value["completedAt"] is not None) == (value["durationMs"] is not None) == over
    assert (value["startedAt"] is None) == (value["status"] == "PENDING")
    assert bool(value["errorMessage"]) == (value["status"] == "FAILED")
    assert value["output"] is None or value["status"] == "COMPLETED"
    return value


class Api(Client):
    """A client of one account."""

    def send(self, method: str, path: str, text: str | bytes | None = None, **options: Any) -> httpx2.Response:
        """A request whose body is exactly ``text``, JSON by its content type unless ``headers`` say otherwise."""
        return super().send(method, path, text, **{**({} if text is None else {"headers": JSON}), **options})

    def post(self, fields: object) -> httpx2.Response:
        """An attempt to register a function."""
        return self.send("POST", FUNCTIONS, json.dumps(fields))

    def submit(self, source: str | None = ECHO, **fields: Any) -> Function:
        """A new function, whatever will come of it."""
        response = self.post({"name": "f", "language": "assemblyscript", "source": source, **fields})
        assert response.status_code == 201, response.text
        created = is_item(response.json())
        assert created["status"] == "PENDING"
        return Function(self, created)

    def function(self, source: str | None = ECHO, **fields: Any) -> Function:
        """A new function that is ready."""
        function = self.submit(source, **fields)
        function.until("READY")
        return function

    def waiter(self, ms: int) -> Function:
        """A ready function that logs its input, is busy for so long, and answers with its input. It needs no compiler."""
        return self.function(None, language="wasm", wasm=waiting(ms))

    def fault(self, source: str | None, **fields: Any) -> str:
        """Why a source cannot be compiled."""
        return str(self.submit(source, **fields).until("FAILED")["compileError"])

    def items(self) -> list[dict[str, Any]]:
        response = self.send("GET", FUNCTIONS)
        assert response.status_code == 200, response.text
        return [is_item(item) for item in response.json()]

    def execution(self, id: str) -> dict[str, Any]:
        response = self.send("GET", f"{EXECUTIONS}/{id}")
        assert response.status_code == 200, response.text
        return is_execution(response.json())

    def executions(self, query: str = "") -> list[dict[str, Any]]:
        """All executions of the account."""
        response = self.send("GET", EXECUTIONS + query)
        assert response.status_code == 200, response.text
        rows: list[dict[str, Any]] = response.json()
        assert all(set(row) == {"id", "functionId", "status", "startedAt", "completedAt"} for row in rows)
        return rows


class Function:
    """A function that was registered. Calling it with an input returns the output of an execution that went well."""

    def __init__(self, api: Api, created: dict[str, Any]) -> None:
        self.api = api
        self.created = created
        self.id: str = created["id"]
        self.path = f"{FUNCTIONS}/{self.id}"

    def by(self, api: Api) -> Function:
        """The same function, as another client sees it."""
        return Function(api, self.created)

    def get(self) -> dict[str, Any]:
        response = self.api.send("GET", self.path)
        assert response.status_code == 200, response.text
        return is_function(response.json())

    def until(self, status: str) -> dict[str, Any]:
        """The whole function once it is built; it must have this status then."""
        seen: list[dict[str, Any]] = []

        def built() -> bool:
            seen[:] = [self.get()]
            return seen[0]["status"] in ("READY", "FAILED")

        wait_until(built, "the build", BUILD_S)
        assert seen[0]["status"] == status, seen[0]
        return seen[0]

    def put(self, fields: object) -> httpx2.Response:
        """An attempt to update."""
        return self.api.send("PUT", self.path, json.dumps(fields))

    def update(self, source: str | None = ECHO, **fields: Any) -> dict[str, Any]:
        response = self.put({"name": self.created["name"], "language": "assemblyscript", "source": source, **fields})
        assert response.status_code == 200, response.text
        return is_function(response.json())

    def delete(self) -> httpx2.Response:
        return self.api.send("DELETE", self.path)

    def post(self, text: str | bytes | None = None, query: str = "", **options: Any) -> httpx2.Response:
        """An attempt to execute, with exactly this body."""
        return self.api.send("POST", f"{self.path}/execute{query}", text, **options)

    def reply(self, text: str | bytes | None = None) -> dict[str, Any]:
        """The checked reply to an execution with this body; its record must say the same."""
        response = self.post(text)
        assert response.status_code == 200, response.text[:500]
        assert response.headers["content-type"] == "application/json"
        reply: dict[str, Any] = response.json()
        assert list(reply) == ["id", "functionId", "status", "output", "errorMessage", "createdAt"]
        record = self.api.execution(reply["id"])
        assert {key: record[key] for key in reply} == reply
        assert reply["functionId"] == self.id
        return reply

    def execute(self, value: object = None) -> dict[str, Any]:
        """The checked reply to an execution with this input."""
        return self.reply(json.dumps({"input": value}))

    def __call__(self, value: object = None) -> Any:
        reply = self.execute(value)
        assert reply["status"] == "COMPLETED", reply
        return reply["output"]

    def failed(self, value: object = None) -> str:
        """The message of an execution that must fail."""
        reply = self.execute(value)
        assert (reply["status"], reply["output"]) == ("FAILED", None), reply
        return str(reply["errorMessage"])

    def record(self, value: object = None) -> dict[str, Any]:
        """The whole record of one execution."""
        return self.api.execution(self.execute(value)["id"])

    def later(self, value: object = None) -> str:
        """Ask for an execution that runs later; its id."""
        response = self.post(json.dumps({"input": value}), "?async=true")
        assert response.status_code == 202, response.text
        reply = response.json()
        assert list(reply) == ["id", "functionId", "status", "output", "errorMessage", "createdAt"]
        assert (reply["functionId"], reply["status"], reply["output"], reply["errorMessage"]) == (self.id, "PENDING", None, None)
        return str(reply["id"])

    def over(self, id: str) -> dict[str, Any]:
        """The record of an execution once it has ended."""
        wait_until(lambda: self.api.execution(id)["status"] in ("COMPLETED", "FAILED"), "the execution's end", 60)
        return self.api.execution(id)

    def history(self) -> list[dict[str, Any]]:
        response = self.api.send("GET", f"{self.path}{EXECUTIONS}")
        assert response.status_code == 200, response.text
        rows: list[dict[str, Any]] = response.json()
        assert all(set(row) == {"id", "status", "startedAt", "completedAt"} for row in rows)
        return rows
