"""What a function of Impuls may look like: each field's type, range and the sentence that refuses it (contract 2.2, 2.5)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from spinney.errors import Invalid

RUNTIMES = frozenset({"nodejs18", "nodejs20", "nodejs22", "python311", "python3"})
CODE_MAX_BYTES = 1048576
DESCRIPTION_MAX = 4096
HANDLER_MAX = 256
MEMORY_MB = (64, 4096)
TIMEOUT_S = (1, 900)
VARIABLES_MAX = 100
VARIABLE_NAME_MAX = 256
ENVIRONMENT_MAX_BYTES = 65536

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?", re.ASCII)

Fields = dict[str, Any]


class CodeTooLarge(Invalid):
    """Answered 413 instead of 400."""


def create_fields(body: Mapping[str, Any]) -> Fields:
    """Every field of a new function, defaults filled in. Raises Invalid for the first that breaks a rule, in order."""
    fields = dict(DEFAULTS)
    for field, rule in CREATE_RULES.items():
        if body.get(field) is not None:
            fields[field] = rule(body[field])
        elif field in REQUIRED:
            raise Invalid(f"{field}: {field} is required", field)
    return fields


def update_fields(body: Mapping[str, Any], *, name: str, id: str) -> Fields:
    """The fields that an update changes. Raises Invalid."""
    for field, own in (("name", name), ("id", id)):
        if body.get(field) is not None and body[field] != own:
            raise Invalid(f"{field}: cannot be changed", field)
    return {field: rule(body[field]) for field, rule in UPDATE_RULES.items() if body.get(field) is not None}


def _string(field: str, value: Any) -> str:
    if not isinstance(value, str):
        raise Invalid(f"{field}: must be a string", field)
    return value


def _required(field: str, value: Any) -> str:
    text = _string(field, value)
    if not text:
        raise Invalid(f"{field}: {field} is required", field)
    return text


def check_name(value: Any) -> str:
    if not _NAME.fullmatch(_required("name", value)):
        raise Invalid("name: only letters, digits and inner hyphens are allowed (1-64 characters)", "name")
    return str(value)


def check_runtime(value: Any) -> str:
    if _required("runtime", value) not in RUNTIMES:
        raise Invalid("runtime: invalid runtime", "runtime")
    return str(value)


def split_handler(handler: str) -> tuple[str, str]:
    """Module and export path: the module ends at the first dot after the last slash (contract 3.2)."""
    dot = handler.find(".", handler.rfind("/") + 1)
    return (handler, "") if dot < 0 else (handler[:dot], handler[dot + 1 :])


def check_handler(value: Any) -> str:
    handler = _required("handler", value)
    module, export = split_handler(handler)
    named = module and not module.endswith("/") and all(_identifier(segment) for segment in export.split("."))
    if not named or len(handler) > HANDLER_MAX or "\0" in handler:
        raise Invalid("handler: must be of the form module.function", "handler")
    return handler


def _identifier(segment: str) -> bool:
    return segment.replace("$", "_").isidentifier()


def check_code(value: Any) -> str:
    code = _string("code", value)
    if not code.strip():
        raise Invalid("code: code is required", "code")
    if len(code.encode()) > CODE_MAX_BYTES:
        raise CodeTooLarge(f"code: too large (max {CODE_MAX_BYTES} bytes)", "code")
    return code


def check_description(value: Any) -> str:
    if len(_string("description", value)) > DESCRIPTION_MAX:
        raise Invalid(f"description: too long (max {DESCRIPTION_MAX} characters)", "description")
    return str(value)


def _integer(field: str, least: int, most: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise Invalid(f"{field}: must be an integer", field)
        if not least <= value <= most:
            raise Invalid(f"{field}: must be between {least} and {most}", field)
        return value

    return check


def check_environment(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise Invalid("environment: must be an object of strings", "environment")
    if len(value) > VARIABLES_MAX:
        raise Invalid(f"environment: at most {VARIABLES_MAX} variables", "environment")
    for key, text in value.items():
        if not key or len(key) > VARIABLE_NAME_MAX or "=" in key or "\0" in key or "\0" in text:
            raise Invalid(f"environment: invalid variable '{key}'", "environment")
    if sum(len(key.encode()) + len(text.encode()) for key, text in value.items()) > ENVIRONMENT_MAX_BYTES:
        raise Invalid(f"environment: too large (max {ENVIRONMENT_MAX_BYTES} bytes)", "environment")
    return value


REQUIRED = ("name", "runtime", "handler", "code")
CREATE_RULES: dict[str, Callable[[Any], Any]] = {
    "name": check_name,
    "runtime": check_runtime,
    "handler": check_handler,
    "code": check_code,
    "description": check_description,
    "memory_mb": _integer("memory_mb", *MEMORY_MB),
    "timeout_sec": _integer("timeout_sec", *TIMEOUT_S),
    "environment": check_environment,
}
UPDATE_RULES = {field: CREATE_RULES[field] for field in CREATE_RULES if field != "name"}
DEFAULTS: Fields = {"description": "", "memory_mb": 128, "timeout_sec": 30, "environment": {}}
