"""Fluxbase on the wire: errors, function objects, history rows (contract 1.6, 2.6, 4)."""

from __future__ import annotations

from typing import Any

import msgspec

from spinney.dialects.fluxbase.rules import DEFAULTS
from spinney.http.hot import HotResponse
from spinney.http.wire import JSON_TYPE, timestamp
from spinney.model import Execution, Function, Version

SERVER_FAULT = "Internal server error"
TOO_LARGE = "Request body too large"

to_json = msgspec.json.encode


def refusal(status: int, error: str, *headers: tuple[bytes, bytes], **more: object) -> HotResponse:
    """An error; ``more`` accompanies it in the body."""
    return HotResponse(status, [JSON_TYPE, *headers], to_json({"error": error, **more}))


def function_item(function: Function, version: Version) -> dict[str, Any]:
    """A function as lists show it."""
    settings = {**DEFAULTS, **version.settings}
    return {
        "id": function.id,
        "name": function.name,
        "description": settings["description"],
        "version": version.number,
        "enabled": settings["enabled"],
        "timeout_seconds": int(version.timeout_s),
        "memory_limit_mb": version.memory_mb,
        "allow_net": settings["allow_net"],
        "allow_env": settings["allow_env"],
        "allow_read": settings["allow_read"],
        "allow_write": settings["allow_write"],
        "allow_unauthenticated": settings["allow_unauthenticated"],
        "cron_schedule": settings["cron_schedule"],
        "created_at": timestamp(function.created_at, "microseconds"),
        "updated_at": timestamp(function.updated_at, "microseconds"),
        "created_by": function.account_id,
    }


def function_object(function: Function, version: Version) -> dict[str, Any]:
    """A function whole."""
    return {**function_item(function, version), "code": version.source}


def execution_item(execution: Execution) -> dict[str, Any]:
    """A finished run as histories show it."""
    return {
        "id": execution.id,
        "function_id": execution.function_id,
        "trigger_type": execution.trigger,
        "status": execution.status,
        "status_code": execution.status_code,
        "duration_ms": execution.duration_ms,
        "result": execution.output,
        "logs": execution.logs,
        "error_message": execution.error,
        "executed_at": timestamp(execution.started_at, "microseconds"),
        "completed_at": timestamp(execution.finished_at or execution.started_at, "microseconds"),
    }
