"""What a function of NIL may look like, and the sentences that refuse the rest (contract 2.1, 6.6)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from spinney.dialects.nil.jsontext import Number, compact
from spinney.errors import Invalid
from spinney.http.wire import Headers

NAME_MAX = 255
SOURCE_MAX_BYTES = 1048576
WASM_MAX_BYTES = 4194304
WASM = "wasm"
"""The language of modules that come compiled."""


class TooLarge(Invalid):
    """More bytes than are taken; ``headers`` go with the answer."""

    def __init__(self, message: str, headers: Headers | None = None) -> None:
        super().__init__(message)
        self.headers = headers or []


class WrongType(Invalid):
    """A content type or a language that is not supported."""


class Fields(NamedTuple):
    """A function as its author gives it. ``source`` of a module that came compiled is its base64."""

    name: str
    description: str | None
    language: str
    source: str


def function_fields(body: Mapping[str, Any], languages: Sequence[str]) -> Fields:
    """Every field of a function, where ``languages`` can be compiled. Raises WrongType, Invalid, TooLarge."""
    language = _language(body.get("language"), languages)
    name = _text(body, "name")
    if len(name) > NAME_MAX:
        raise Invalid(f"name must be at most {NAME_MAX} characters", "name")
    source = _wasm(body) if language == WASM else _source(body)
    description = body.get("description")
    if description is not None and not is_text(description):
        raise Invalid("description must be a string", "description")
    return Fields(name, description, language, source)


def is_text(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, Number)


def _language(value: Any, languages: Sequence[str]) -> str:
    if is_text(value) and value.lower() in (*languages, WASM):
        return str(value.lower())
    shown = value if is_text(value) else compact(value)
    raise WrongType(f"Unsupported language: {shown}. Supported: [{', '.join(languages)}]", "language")


def _text(body: Mapping[str, Any], field: str) -> str:
    value = body.get(field)
    if value is None or (is_text(value) and not value.strip()):
        raise Invalid(f"{field} is required", field)
    if not is_text(value):
        raise Invalid(f"{field} must be a string", field)
    return str(value)


def _source(body: Mapping[str, Any]) -> str:
    source = _text(body, "source")
    _check_size("source", len(source.encode()), SOURCE_MAX_BYTES)
    return source


def _wasm(body: Mapping[str, Any]) -> str:
    text = _text(body, WASM)
    try:
        size = len(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        raise Invalid("wasm must be base64", WASM) from None
    _check_size(WASM, size, WASM_MAX_BYTES)
    return text


def _check_size(field: str, size: int, limit: int) -> None:
    if size > limit:
        raise TooLarge(f"{field} is too large: {size} bytes (limit {limit})")
