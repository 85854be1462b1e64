"""Strings between UTF-16 and UTF-8, and the JSON that an answer must be (NIL contract 1.3 and 3.5)."""

from __future__ import annotations

import json
import math
import re

from spinney_guest.values import is_deeper  # type: ignore[import-not-found]

DEPTH_MAX = 500
REPLACEMENT = "\ufffd"

_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPE = re.compile(r"\\(?:u([dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL)


def decode_units(units: bytes) -> str:
    """UTF-16 as text, with U+FFFD for each half of a pair that is alone."""
    try:
        return units.decode("utf-16-le")
    except UnicodeDecodeError:
        return _SURROGATE.sub(REPLACEMENT, units.decode("utf-16-le", "surrogatepass"))


def encode_units(text: bytes) -> bytes:
    """UTF-8 as UTF-16."""
    return text.decode().encode("utf-16-le")


def json_from_units(units: bytes) -> bytes:
    """A JSON text in UTF-16 as UTF-8. A pair may be half raw, half escaped; what is alone becomes U+FFFD. Raises ValueError."""
    text = units.decode("utf-16-le", "surrogatepass")
    check_json(text)
    return mend(text).encode()


def mend(text: str) -> str:
    """A JSON text without halves of pairs, raw or escaped."""
    if "\\" in text:
        text = _ESCAPE.sub(_unescape_half, text)
    if _SURROGATE.search(text):
        text = decode_units(text.encode("utf-16-le", "surrogatepass"))
    return text


def _unescape_half(match: re.Match[str]) -> str:
    return chr(int(match[1], 16)) if match[1] else match[0]


def check_json(text: str) -> None:
    """Raise ValueError unless it is one strict JSON value, at most 500 levels deep."""
    try:
        _decode(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if is_deeper(text.encode("utf-8", "surrogatepass"), DEPTH_MAX):
        raise ValueError("nested too deep")


def _check_float(digits: str) -> None:
    if math.isinf(float(digits)):
        raise ValueError("too large for a double")


def _forget(_value: object) -> None:
    """Values are not wanted, only whether they are right: an object takes twenty times the memory of its text."""


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_decode = json.JSONDecoder(parse_float=_check_float, parse_int=_forget, parse_constant=_refuse, object_pairs_hook=_forget).decode
