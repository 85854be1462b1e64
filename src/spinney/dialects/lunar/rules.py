"""What bodies may say, and the sentences that refuse the rest (contract 1.2, 2.4 to 2.6)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from spinney.dialects.lunar.cron import parse
from spinney.errors import Invalid
from spinney.http.wire import NotJSON, parse_object

INVALID_BODY = "Invalid request body"
NAME_MAX, DESCRIPTION_MAX, CODE_MAX = 100, 500, 1048576
VARIABLES_MAX = 100
KEY_MAX, VALUE_MAX = 100, 10000
RETENTION_DAYS = (7, 15, 30, 365)
CRON_STATUSES = ("active", "paused")
SPACE = (
    " \t\n\v\f\r\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
UPDATABLE: dict[str, type] = {
    "name": str,
    "description": str,
    "code": str,
    "disabled": bool,
    "retention_days": int,
    "cron_schedule": str,
    "cron_status": str,
    "save_response": bool,
}

_KEY = re.compile(r"[A-Za-z0-9_]+")


def read_object(body: bytes, fields: Mapping[str, type]) -> dict[str, Any]:
    """Those of ``fields`` that a body has, each of its type; null is as good as nothing. Raises Invalid."""
    if body.strip(b" \t\r\n") == b"null":
        return {}
    try:
        told = parse_object(body)
    except NotJSON:
        raise Invalid(INVALID_BODY) from None
    found = {name: told[name] for name in fields if told.get(name) is not None}
    if any(type(value) is not fields[name] for name, value in found.items()):
        raise Invalid(INVALID_BODY)
    return found


def check_new(fields: Mapping[str, Any]) -> None:
    """A function that shall be made. Raises Invalid."""
    _check_name(fields.get("name", ""))
    _check_description(fields.get("description", ""))
    _check_code(fields.get("code", ""))


def check_update(fields: Mapping[str, Any]) -> None:
    """What shall change of a function. Raises Invalid."""
    if not fields:
        raise _fault("request", "at least one field must be provided for update")
    for name, check in _CHECKS.items():
        if name in fields:
            check(fields[name])


def check_token_name(name: str) -> None:
    """Raises Invalid."""
    _check_name(name)


def check_variables(wanted: Mapping[str, str], stored: Mapping[str, str]) -> None:
    """A function's variables; what is stored as it is wanted needs no check. Raises Invalid."""
    if len(wanted) > VARIABLES_MAX:
        raise _fault("env_vars", f"cannot have more than {VARIABLES_MAX} environment variables")
    _check_entries(wanted, stored, ("env_var_key", "environment variable key"), ("env_var_value", "environment variable value"))


def check_entries(wanted: Mapping[str, str], stored: Mapping[str, str]) -> None:
    """A scope of the KV store, as ``check_variables``. Raises Invalid."""
    _check_entries(wanted, stored, ("key", "key"), ("value", "value"))


def read_variables(body: bytes) -> dict[str, str]:
    """Raises Invalid."""
    variables = read_object(body, {"env_vars": dict}).get("env_vars")
    if variables is None:
        raise _fault("env_vars", "env_vars cannot be nil")
    return _texts(variables)


def read_entries(body: bytes) -> tuple[dict[str, str], bool]:
    """Entries in either form, and whether they are the account's. Raises Invalid."""
    fields = read_object(body, {"global": bool, "kv": dict, "kvEntries": list})
    listed: dict[str, Any] = {}
    for entry in fields.get("kvEntries", ()):
        if not isinstance(entry, dict):
            raise Invalid(INVALID_BODY)
        key, value = (_text("" if entry.get(name) is None else entry[name]) for name in ("key", "value"))
        listed[key] = value
    if "kv" not in fields and "kvEntries" not in fields:
        raise _fault("kv", "kv cannot be nil")
    return _texts(fields["kv"]) if "kv" in fields else listed, fields.get("global", False)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Invalid(INVALID_BODY)
    return value


def _texts(entries: Mapping[str, Any]) -> dict[str, str]:
    return {key: _text(value) for key, value in entries.items()}


def _check_entries(
    wanted: Mapping[str, str], stored: Mapping[str, str], key_field: tuple[str, str], value_field: tuple[str, str]
) -> None:
    for key in sorted(wanted, key=str.encode):
        if stored.get(key) == wanted[key]:
            continue
        _check_size(*key_field, key, KEY_MAX, empty=not key)
        if not _KEY.fullmatch(key):
            raise _fault(key_field[0], f"{key_field[1]} can only contain letters, numbers, and underscores")
        _check_size(*value_field, wanted[key], VALUE_MAX, empty=not wanted[key].strip(SPACE))


def _check_size(field: str, noun: str, text: str, limit: int, *, empty: bool, unit: str = "characters") -> None:
    if empty:
        raise _fault(field, f"{noun} cannot be empty")
    if len(text.encode()) > limit:
        raise _fault(field, f"{noun} cannot be longer than {limit} {unit}")


def _check_name(name: str) -> None:
    trimmed = name.strip(SPACE)
    _check_size("name", "name", trimmed, NAME_MAX, empty=not trimmed)


def _check_description(description: str) -> None:
    _check_size("description", "description", description, DESCRIPTION_MAX, empty=False)


def _check_code(code: str) -> None:
    _check_size("code", "code", code, CODE_MAX, empty=not code.strip(SPACE), unit="bytes")


def _check_choice(field: str, choices: Sequence[object]) -> Callable[[Any], None]:
    listed = " ".join(map(str, choices))

    def check(value: Any) -> None:
        if value not in choices:
            raise _fault(field, f"{field} must be one of: [{listed}]")

    return check


def _check_schedule(text: str) -> None:
    if not text:
        return
    try:
        parse(text)
    except Invalid as fault:
        raise _fault("cron_schedule", f"invalid cron expression: {fault.message}") from None


_CHECKS: dict[str, Callable[[Any], None]] = {
    "name": _check_name,
    "description": _check_description,
    "code": _check_code,
    "retention_days": _check_choice("retention_days", RETENTION_DAYS),
    "cron_schedule": _check_schedule,
    "cron_status": _check_choice("cron_status", CRON_STATUSES),
}
"""In the order in which they are made."""


def _fault(field: str, text: str) -> Invalid:
    return Invalid(f"{field}: {text}", field)
