"""Lunar's objects on the wire (contract 2.10)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from spinney.core.kernel import INTERRUPTED
from spinney.model import AIRequest, EmailRequest, Execution, Function, Status, Token, Version

LIMIT, LIMIT_MAX = 20, 100
INTEGER_END = 1 << 60

_decode_rows = msgspec.json.Decoder(list[tuple[str, str, int]]).decode


def version_object(version: Version, current_id: str) -> dict[str, Any]:
    return {
        "id": version.id,
        "function_id": version.function_id,
        "version": version.number,
        "code": version.source,
        "created_at": int(version.created_at),
        "is_active": version.id == current_id,
    }


def function_object(
    function: Function,
    version: Version,
    variables: Mapping[str, str] | None = None,
    scoped: Mapping[str, str] | None = None,
    shared: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A function with its active version; lists leave its entries out."""
    settings = function.settings
    found = {
        "id": function.id,
        "name": settings["name"],
        "description": settings["description"],
        "env_vars": variables or {},
        "disabled": settings["disabled"],
        "retention_days": settings["retention_days"],
        "cron_schedule": settings["cron_schedule"] or None,
        "cron_status": settings["cron_status"],
        "save_response": settings["save_response"],
        "created_at": int(function.created_at),
        "updated_at": int(function.updated_at),
    }
    return {
        **_present(found),
        "scoped_data": scoped,
        "global_data": shared,
        "active_version": version_object(version, function.version_id),
    }


def execution_object(execution: Execution) -> dict[str, Any]:
    over = execution.status in (Status.SUCCESS, Status.ERROR, Status.TIMEOUT)
    found = {
        "id": execution.id,
        "function_id": execution.function_id,
        "function_version_id": execution.version_id,
        "status": _status(execution.status) if over else "pending",
        "duration_ms": execution.duration_ms if over else None,
        "error_message": error_message(execution),
        "event_json": execution.input,
        "response_json": execution.output,
        "trigger": execution.trigger,
        "created_at": int(execution.started_at),
    }
    return _present(found)


def log_rows(execution: Execution) -> list[dict[str, Any]]:
    """All rows, oldest first; a run that failed has one more, which says why."""
    rows = _decode_rows(execution.logs) if execution.logs else []
    message = error_message(execution)
    if message is not None:
        rows.append(("error", message.partition("\n")[0], int(execution.finished_at or execution.started_at)))
    return [{"level": level, "message": message, "created_at": at} for level, message, at in rows]


def error_message(execution: Execution) -> str | None:
    return f"Execution {INTERRUPTED}" if execution.error == INTERRUPTED else execution.error


def ai_object(request: AIRequest) -> dict[str, Any]:
    found = {
        "id": request.id,
        "execution_id": request.execution_id,
        "provider": request.provider,
        "model": request.model,
        "endpoint": request.endpoint,
        "request_json": request.request,
        "response_json": request.response,
        "status": _status(request.status),
        "error_message": request.error,
        "input_tokens": request.input_tokens,
        "output_tokens": request.output_tokens,
        "duration_ms": request.duration_ms,
        "created_at": int(request.created_at),
    }
    return _present(found)


def email_object(request: EmailRequest) -> dict[str, Any]:
    found = {
        "id": request.id,
        "execution_id": request.execution_id,
        "from": request.sender,
        "to": list(request.recipients),
        "subject": request.subject,
        "has_text": request.has_text,
        "has_html": request.has_html,
        "request_json": request.request,
        "response_json": request.response,
        "status": _status(request.status),
        "error_message": request.error,
        "email_id": request.email_id,
        "duration_ms": request.duration_ms,
        "created_at": int(request.created_at),
    }
    return _present(found)


def token_object(token: Token) -> dict[str, Any]:
    found = {
        "id": token.id,
        "name": token.name,
        "created_at": int(token.created_at),
        "last_used": None if token.last_used_at is None else int(token.last_used_at),
        "revoked": token.revoked_at is not None,
    }
    return _present(found)


def page(query: Mapping[str, str]) -> tuple[int, int]:
    """limit and offset of a list."""
    limit = _integer(query.get("limit", ""))
    offset = _integer(query.get("offset", ""))
    return (min(limit, LIMIT_MAX) if limit > 0 else LIMIT), max(0, offset)


def pagination(total: int, limit: int, offset: int) -> dict[str, int]:
    return {"total": total, "limit": limit, "offset": offset}


def integer(text: str) -> int | None:
    """What digits with or without a sign say; None when it is anything else, or too large for any number of ours."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
        return None
    return int(text)


def _integer(text: str) -> int:
    return integer(text) or 0


def _status(status: Status) -> str:
    return "success" if status is Status.SUCCESS else "error"


def _present(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def human_time(seconds: int) -> str:
    """How far ahead something is, in words."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count = seconds // length
        if count:
            return f"in {count} {unit}{'s' if count > 1 else ''}"
    return "in less than a minute"
