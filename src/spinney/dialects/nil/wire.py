"""NIL on the wire: errors, functions, executions (contract 1.3, 1.4, 2, 6)."""

from __future__ import annotations

import json
from http import HTTPStatus
from time import time
from typing import Any

import msgspec

from spinney.core.kernel import INTERRUPTED
from spinney.dialects.nil.rules import WASM
from spinney.http.hot import HotResponse
from spinney.http.wire import JSON_TYPE, timestamp
from spinney.model import Build, Execution, Function, Status, Version

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
PENDING, COMPLETED, FAILED = "PENDING", "COMPLETED", "FAILED"
STATUSES = {
    PENDING: (Status.QUEUED,),
    "RUNNING": (Status.RUNNING,),
    COMPLETED: (Status.SUCCESS,),
    FAILED: (Status.ERROR, Status.TIMEOUT),
}
"""What executions are called here."""

_NAMES = {status: name for name, ours in STATUSES.items() for status in ours}

to_json = msgspec.json.Encoder().encode


def sentence(message: str) -> str:
    """A message of the server's own as NIL writes it."""
    return message[:1].upper() + message[1:]


def error_body(status: int, message: str) -> bytes:
    """Every error, of every kind."""
    name = ERRORS.get(status) or HTTPStatus(status).phrase
    return to_json({"timestamp": timestamp(time()), "status": status, "error": name, "message": message})


def refusal(status: int, message: str, *headers: tuple[bytes, bytes]) -> HotResponse:
    return HotResponse(status, [JSON_TYPE, *headers], error_body(status, message))


def function_item(function: Function, status: str) -> dict[str, Any]:
    """A function as lists show it."""
    return {
        "id": function.id,
        "name": function.settings["name"],
        "status": status,
        "createdAt": timestamp(function.created_at),
    }


def function_status(build: Build | None) -> str:
    return PENDING if build is None else build.status.value.upper()


def function_object(function: Function, version: Version, build: Build | None, error: str | None) -> dict[str, Any]:
    """A function whole. ``build`` is its version's and ``error`` why it failed, if it did."""
    language = version.settings["language"]
    status = function_status(build)
    if status == FAILED and error is None:  # it has been replaced since
        status = PENDING
    return {
        "id": function.id,
        "name": function.settings["name"],
        "description": function.settings["description"],
        "language": language,
        "source": None if language == WASM else version.source,
        "status": status,
        "compileError": error,
        "createdAt": timestamp(function.created_at),
        "updatedAt": timestamp(max(function.updated_at, build.changed_at if build else 0.0)),
    }


def execution_reply(execution: Execution) -> bytes:
    """What the caller of an execution gets."""
    return b'{"id":"%b","functionId":"%b","status":"%b","output":%b,"errorMessage":%b,"createdAt":"%b"}' % (
        execution.id.encode(),
        execution.function_id.encode(),
        _NAMES[execution.status].encode(),
        b"null" if execution.output is None else execution.output.encode(),
        to_json(error_message(execution)),
        timestamp(execution.started_at).encode(),
    )


def execution_item(execution: Execution) -> dict[str, Any]:
    """An execution as its function's history shows it."""
    return {
        "id": execution.id,
        "status": _NAMES[execution.status],
        "startedAt": _moment(execution.begun_at),
        "completedAt": _moment(execution.finished_at),
    }


def execution_list_item(execution: Execution) -> dict[str, Any]:
    """An execution as the account's history shows it."""
    return {**execution_item(execution), "functionId": execution.function_id}


def execution_object(execution: Execution) -> dict[str, Any]:
    """An execution whole."""
    return {
        **execution_list_item(execution),
        "input": _raw(execution.input or "{}"),
        "output": None if execution.output is None else _raw(execution.output),
        "errorMessage": error_message(execution),
        "createdAt": timestamp(execution.started_at),
        "logs": json.loads(execution.logs) if execution.logs else [],
        "durationMs": None if execution.finished_at is None else execution.duration_ms,
    }


def error_message(execution: Execution) -> str | None:
    return f"Execution {INTERRUPTED}" if execution.error == INTERRUPTED else execution.error


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else timestamp(seconds)


def _raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())
