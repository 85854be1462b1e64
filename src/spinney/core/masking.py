"""Secrets out of what is kept: members of JSON whose names say that they are nobody else's business (Lunar contract 3.12)."""

from __future__ import annotations

import json
import re
from typing import Any

REDACTED = "[REDACTED]"
SECRET_MEMBER = re.compile(
    r"(password|secret|api_key|apikey|access_token|private_key|client_secret|token|auth|authorization|bearer|credentials?)([_-].*)?",
    re.IGNORECASE | re.DOTALL,
)
SURROGATE = re.compile("[\ud800-\udfff]")


def mask_json(text: str) -> str:
    """A text that is JSON, with the values of secret members replaced, at every depth, and its keys sorted; any other as it is.

    What is too deep to be looked at is replaced whole.
    """
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except ValueError:
        return text
    except RecursionError:
        return REDACTED
    return to_text(value)


def to_text(value: Any) -> str:
    """A value as JSON text with sorted keys and without the values of secret members, fit for any store."""
    try:
        masked = json.dumps(_mask(value), ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except RecursionError:
        return REDACTED
    return SURROGATE.sub("\ufffd", masked)


def _mask(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: REDACTED if SECRET_MEMBER.fullmatch(name) else _mask(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_mask(inner) for inner in value]
    return value


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise ValueError("the number is too large to be written again")
    return number
