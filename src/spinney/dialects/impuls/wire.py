"""Impuls on the wire: function objects, invocation envelopes, execution items (contract 2.2, 2.7, 3.5, 3.6, 6)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from spinney.core.kernel import Target, cut_text
from spinney.http.hot import HotResponse
from spinney.http.wire import JSON_TYPE, NotJSON, check_json, timestamp
from spinney.model import Execution, Function, LogLine, Outcome, Reply, Status, Version

LOG_MAX_BYTES = 262144
TRUNCATED = f"[WARN] log output truncated (max {LOG_MAX_BYTES} bytes)"
PREFIXES = {"debug": "[DEBUG] ", "info": "[INFO] ", "warn": "[WARN] ", "error": "[ERROR] "}

_encode = msgspec.json.encode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def to_json(value: object) -> bytes:
    """JSON text of an answer."""
    return _encode(value)


def refusal(status: int, message: str, *headers: tuple[bytes, bytes]) -> HotResponse:
    """An error that is not an envelope (contract 1)."""
    return HotResponse(status, [JSON_TYPE, *headers], to_json({"error": True, "message": message}))


def function_item(function: Function, version: Version) -> dict[str, Any]:
    """A function as lists show it."""
    return {
        "id": function.id,
        "name": function.name,
        "description": function.description,
        "runtime": version.runtime,
        "handler": version.handler,
        "memory_mb": version.memory_mb,
        "timeout_sec": int(version.timeout_s),
        "created_at": timestamp(function.created_at),
        "updated_at": timestamp(function.updated_at),
    }


def function_object(function: Function, version: Version) -> dict[str, Any]:
    """A function whole."""
    return {**function_item(function, version), "code": version.source, "environment": dict(version.environment)}


class Envelope(msgspec.Struct):
    """An invocation's answer: the HTTP status, the JSON text, and what the execution keeps of it."""

    http_status: int
    text: bytes
    duration_ms: int
    execution: Execution


def envelope(target: Target, reply: Reply, execution: Execution) -> Envelope:
    """Turn a reply into the answer and complete ``execution`` with it."""
    duration_ms = int(reply.duration_s * 1000)
    execution.duration_ms = duration_ms
    if reply.outcome is Outcome.OK:
        try:
            return _success(reply, execution, duration_ms)
        except NotJSON:
            reply.outcome, reply.message = Outcome.BAD_RESULT, "malformed result"
    return _failure(target, reply, execution, duration_ms)


def _success(reply: Reply, execution: Execution, duration_ms: int) -> Envelope:
    body = reply.body
    check_json(body)
    status, headers = 200, b""
    if body[:1] == b"{" and b'"statusCode"' in body:
        status, body, headers = _unwrap(body)
    logs = format_logs(reply) if reply.logs or reply.logs_truncated else ""
    execution.status = Status.SUCCESS
    execution.status_code = status
    execution.logs = logs
    execution.output = body.decode()
    if headers:
        execution.headers = headers.decode()
        headers = b',"headers":' + headers
    text = b'{"status_code":%d,"body":%b%b,"duration_ms":%d,"logs":%b}' % (status, body, headers, duration_ms, _encode(logs))
    return Envelope(200 if status < 200 else status, text, duration_ms, execution)


def _unwrap(body: bytes) -> tuple[int, bytes, bytes]:
    """Status, body and headers of a result object with a usable ``statusCode``; else 200 and the value itself."""
    members = _split(body)
    code = members.get("statusCode", b"")
    if not (len(code) == 3 and code.isdigit() and b"100" <= code <= b"599"):
        return 200, body, b""
    headers = members.get("headers", b"")
    return int(code), members.get("body", b"null"), headers if headers[:1] == b"{" else b""


def _split(body: bytes) -> dict[str, bytes]:
    try:
        return {key: bytes(value) for key, value in _members(body).items()}
    except (msgspec.DecodeError, msgspec.ValidationError):  # lone surrogates: rare, and only the standard library takes them
        return {key: json.dumps(value, separators=(",", ":")).encode() for key, value in json.loads(body).items()}


def _failure(target: Target, reply: Reply, execution: Execution, duration_ms: int) -> Envelope:
    error = error_text(target, reply)
    logs = format_logs(reply, error)
    execution.status = Status.TIMEOUT if reply.outcome is Outcome.TIMEOUT else Status.ERROR
    execution.status_code = 500
    execution.logs = logs
    execution.error = error
    text = b'{"status_code":500,"error":%b,"duration_ms":%d,"logs":%b}' % (_encode(error), duration_ms, _encode(logs))
    return Envelope(500, text, duration_ms, execution)


def error_text(target: Target, reply: Reply) -> str:
    """The ``error`` of an envelope (contract 3.6)."""
    version, message = target.version, reply.message
    match reply.outcome:
        case Outcome.LOAD_ERROR:
            return f"Failed to load function: {message}"
        case Outcome.NO_HANDLER:
            return f"Handler '{message}' is not a function"
        case Outcome.BAD_RESULT:
            return f"function result is not JSON-serializable: {message}"
        case Outcome.RESULT_TOO_LARGE:
            return "function result too large (max 6291456 bytes)"
        case Outcome.TIMEOUT:
            return f"function execution timed out after {int(version.timeout_s)} seconds"
        case Outcome.EXITED:
            return f"function exited before returning (exit code {'unknown' if reply.exit_code is None else reply.exit_code})"
        case Outcome.OUT_OF_MEMORY:
            return f"function exceeded its memory limit of {version.memory_mb} MB"
        case Outcome.NOT_STARTED:
            return f"function could not be started: {message}"
        case Outcome.UNAVAILABLE:
            return f"runtime '{version.runtime}' is not available on this server"
        case _:
            return message


def format_logs(reply: Reply, error: str | None = None) -> str:
    """All lines of a call as one text, cut at its limit, with the failure's own line last (contract 3.5)."""
    text, cut = cut_text(_lines(reply.logs), LOG_MAX_BYTES)
    parts = [text] if text else []
    if cut or reply.logs_truncated:
        parts.append(TRUNCATED)
    if error is not None:
        parts.append(f"[ERROR] {error}")
    return "\n".join(parts)


def _lines(logs: Sequence[LogLine]) -> str:
    return "\n".join([PREFIXES[line.level] + line.text for line in logs])


def execution_item(execution: Execution) -> dict[str, Any]:
    """An execution as histories show it."""
    item: dict[str, Any] = {
        "id": execution.id,
        "status": execution.status,
        "status_code": execution.status_code,
        "duration_ms": execution.duration_ms,
        "trigger": execution.trigger,
        "started_at": timestamp(execution.started_at),
        "logs": execution.logs or (f"[ERROR] {execution.error}" if execution.error else ""),  # cut off by a crash, it kept none
    }
    if execution.error is not None:
        item["error"] = execution.error
    return item


def execution_object(execution: Execution, function_name: str) -> dict[str, Any]:
    """An execution whole."""
    item = execution_item(execution)
    item["function"] = function_name
    item["finished_at"] = None if execution.finished_at is None else timestamp(execution.finished_at)
    if execution.status == Status.SUCCESS:
        item["body"] = msgspec.Raw((execution.output or "null").encode())
        if execution.headers is not None:
            item["headers"] = msgspec.Raw(execution.headers.encode())
    return item
