"""What crosses the wire: the text of a handler's value, and the message of what it raised (Impuls contract 3.4, 3.6)."""

from __future__ import annotations

import itertools
import json
import re

OK, FAILED, NOT_LOADED, NO_HANDLER, NOT_JSON, TOO_LARGE = range(6)
UNUSABLE = 0x80

DEPTH_MAX = 512
MESSAGE_MAX = 65536

decode = json.JSONDecoder().decode
_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def encode(value: object, bytes_max: int) -> tuple[int, bytes]:
    """A value as (outcome, bytes)."""
    try:
        text = _encode(value).encode("ascii")
    except MemoryError:
        raise
    except Exception as error:
        return NOT_JSON, describe(error)
    if is_deeper(text, DEPTH_MAX):
        return NOT_JSON, b"nested deeper than %d levels" % DEPTH_MAX
    if len(text) > bytes_max:
        return TOO_LARGE, b""
    return OK, text


def is_deeper(text: bytes, levels: int) -> bool:
    """Whether a right JSON text is nested deeper than so many levels."""
    if text.count(b"[") + text.count(b"{") <= levels:
        return False
    brackets = _STRING.sub(b"", text).translate(None, _NOT_BRACKETS)
    return max(itertools.accumulate(map(_STEPS.__getitem__, brackets)), default=0) > levels


def describe(error: BaseException) -> bytes:
    """The message of an exception: what it says, or its class when it says nothing. Never raises."""
    try:
        message = str(error) or type(error).__name__
    except Exception:
        message = type(error).__name__
    return message[:MESSAGE_MAX].encode("utf-8", "backslashreplace")
