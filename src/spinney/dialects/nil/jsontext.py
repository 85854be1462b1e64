"""JSON as NIL takes and gives it: strict, numbers by their digits, text without lone surrogates (contract 1.3, 3.1)."""

from __future__ import annotations

import re
from json.encoder import encode_basestring as quote
from math import isfinite
from typing import Any

import msgspec

from spinney.http.wire import NotJSON, check_depth, check_json, read_json

DEPTH_MAX = 500
EMPTY = b"{}"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


class Number(str):
    """A number, as the digits that were sent."""

    __slots__ = ()


def parse(raw: bytes) -> Any:
    """The value of a JSON text. Numbers are ``Number``; what is no character is U+FFFD in keys and members. Raises NotJSON."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise NotJSON("invalid UTF-8") from None
    check_depth(raw, DEPTH_MAX)
    pairs = _replace_surrogates if _SURROGATE_ESCAPE.search(text) else None
    return read_json(text, parse_int=Number, parse_float=_fraction, object_pairs_hook=pairs)


def _fraction(digits: str) -> Number:
    if not isfinite(float(digits)):
        raise NotJSON("a number is too large")
    return Number(digits)


def _replace_surrogates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {_characters(key): _characters(value) if type(value) is str else value for key, value in pairs}


def _characters(text: str) -> str:
    return _SURROGATE.sub("\ufffd", text)


def compact(value: Any) -> str:
    """The JSON text of what ``parse`` gave: no white space, only the escapes that must be, numbers by their digits."""
    parts: list[str] = []
    _write(value, parts.append)
    return _characters("".join(parts))


def _write(value: Any, add: Any) -> None:
    # Explicit loops: a comprehension would be a second frame for each of up to 500 levels.
    if isinstance(value, Number):
        add(value)
    elif isinstance(value, str):
        add(quote(value))
    elif isinstance(value, dict):
        before = "{"
        for key, member in value.items():
            add(f"{before}{quote(key)}:")
            _write(member, add)
            before = ","
        add("}" if value else "{}")
    elif isinstance(value, list):
        before = "["
        for member in value:
            add(before)
            _write(member, add)
            before = ","
        add("]" if value else "[]")
    else:
        add("null" if value is None else "true" if value else "false")


def quick_input(body: bytes) -> bytes | None:
    """As ``read_input``, for nearly all bodies and in a microsecond; None where only that can tell.

    A text that is the same when it is read and written again has no white space, no needless escapes, no key twice and no number
    that a double would change. Nor has one that becomes so when only its white space is taken out.
    """
    try:
        check_depth(body, DEPTH_MAX)
        value = _decode(body)
        if type(value) is not dict or len(value) != 1:
            return None
        given = value["input"]
        if given is None:
            return None
        text = _encode(given)
        whole = b'{"input":%b}' % text
        return text if body == whole or msgspec.json.format(body, indent=-1) == whole else None
    except (ValueError, KeyError, RecursionError, msgspec.MsgspecError):
        return None


def read_input(body: bytes) -> bytes:
    """The compact JSON text of a body's ``input``, an empty object when it has none. Raises NotJSON, NotObject."""
    value = parse(body) if body and not body.isspace() else None
    if value is None:
        return EMPTY
    if not isinstance(value, dict):
        raise NotObject
    given = value.get("input")
    return EMPTY if given is None else compact(given).encode()


def check_output(raw: bytes) -> None:
    """Raise NotJSON unless a guest has kept to the rules; numbers are its own affair."""
    check_json(raw, DEPTH_MAX)


class NotObject(ValueError):
    """JSON, and no object."""
