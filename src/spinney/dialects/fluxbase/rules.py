"""What a function of Fluxbase may look like: types, ranges, and the sentences that refuse the rest (contract 2.1, 2.4)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from spinney.core.kernel import check_schedule
from spinney.errors import Invalid

NAME_MAX = 64
RESERVED = frozenset({"stream", "shared"})
CODE_MAX_BYTES = 1048576
RANGES = {"timeout_seconds": (1, 300), "memory_limit_mb": (64, 1024)}

Fields = dict[str, Any]

TYPES: dict[str, type] = {
    "name": str,
    "code": str,
    "description": str,
    "enabled": bool,
    "timeout_seconds": int,
    "memory_limit_mb": int,
    "allow_net": bool,
    "allow_env": bool,
    "allow_read": bool,
    "allow_write": bool,
    "allow_unauthenticated": bool,
    "cron_schedule": str,
}
DEFAULTS: Fields = {
    "description": None,
    "enabled": False,
    "timeout_seconds": 30,
    "memory_limit_mb": 128,
    "allow_net": True,
    "allow_env": True,
    "allow_read": False,
    "allow_write": False,
    "allow_unauthenticated": None,
    "cron_schedule": None,
}
CLEARABLE = frozenset(name for name, value in DEFAULTS.items() if value is None)
"""Fields that ``null`` empties; for all others it is as good as leaving them out."""

_TYPE_NAMES = {str: "a string", bool: "true or false", int: "an integer"}
_NAME = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


class Malformed(Invalid):
    """The body is no JSON object, or a field has the wrong type: ``message`` says which and why."""


def create_fields(body: Mapping[str, Any]) -> Fields:
    """Every field of a new function, defaults filled in. Raises Malformed, then Invalid for the first that breaks a rule."""
    given = _typed(body, TYPES)
    check_name(given.get("name"))
    if "code" not in given:
        raise Invalid("Function code is required", "code")
    return {**DEFAULTS, **_checked(given)}


def update_fields(body: Mapping[str, Any]) -> Fields:
    """The fields that an update changes. Raises as ``create_fields``; ``name`` is not one of them."""
    given = _typed(body, [name for name in TYPES if name != "name"])
    cleared = dict.fromkeys(name for name in CLEARABLE if name in body)
    return {**cleared, **_checked(given)}


def _typed(body: Mapping[str, Any], names: Any) -> Fields:
    """Those fields that the body gives a value."""
    given = {name: body[name] for name in names if body.get(name) is not None}
    for name, value in given.items():
        if type(value) is not TYPES[name]:
            raise Malformed(f"{name}: must be {_TYPE_NAMES[TYPES[name]]}", name)
    return given


def check_name(name: str | None) -> None:
    if not name:
        raise Invalid("Function name is required", "name")
    if len(name) > NAME_MAX:
        raise Invalid(f"Function name too long (max {NAME_MAX} characters)", "name")
    if not _NAME.fullmatch(name):
        raise Invalid("Function name must contain only letters, numbers, hyphens, and underscores", "name")
    if name in RESERVED:
        raise Invalid(f"Function name '{name}' is reserved", "name")


def _checked(given: Fields) -> Fields:
    """The fields as they are kept."""
    if "code" in given:
        _check_code(given["code"])
    for name, (least, most) in RANGES.items():
        if name in given and not least <= given[name] <= most:
            raise Invalid(f"{name} must be between {least} and {most}", name)
    if "cron_schedule" in given:
        return {**given, "cron_schedule": _check_schedule(given["cron_schedule"])}
    return given


def _check_code(code: str) -> None:
    if not code:
        raise Invalid("Function code is required", "code")
    if len(code.encode()) > CODE_MAX_BYTES:
        raise Invalid(f"Function code too large (max {CODE_MAX_BYTES} bytes)", "code")


def _check_schedule(text: str) -> str | None:
    if not text:
        return None
    try:
        check_schedule(text)
    except Invalid:
        raise Invalid("Invalid cron schedule", "cron_schedule") from None
    return text
