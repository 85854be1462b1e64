"""Who calls, what is named, and what is in the body: judged in this order, before anything is done (contract 1.2, 1.3, 1.5)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, TypeVar

from spinney.core.kernel import ANONYMOUS, Caller, Kernel, Target
from spinney.dialects.nil import jsontext
from spinney.dialects.nil.rules import TooLarge, WrongType
from spinney.errors import Denied, Invalid, NotFound
from spinney.http.bearer import WrongToken, bearer, find_caller, find_caller_late
from spinney.http.hot import HotHeaders, HotRequest
from spinney.http.wire import BodyTooLarge, NotJSON, header

NAME = "nil"
REQUIRED = "Authentication required: send a bearer token"
WRONG = "Invalid token"
BODY_MAX_BYTES = 8388608
BODY_DRAIN_BYTES = 33554432
SMALL_BYTES = 65536
"""Larger bodies are read beside the event loop, one at a time: some take seconds."""

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_JSON = re.compile(r"application/(json|[^\s;/,]+\+json)[ \t]*(;.*)?", re.IGNORECASE)
_reader = ThreadPoolExecutor(1, thread_name_prefix="nil-reader")
T = TypeVar("T")


async def identify(kernel: Kernel, headers: HotHeaders, client: str) -> Caller:
    """The caller of a request. Raises Denied: without credentials off loopback, and for wrong ones everywhere."""
    if not headers.authorization:
        if not kernel.open_access:
            raise Denied(REQUIRED)
        return ANONYMOUS
    try:
        caller = find_caller(kernel, bearer(headers.authorization))
    except WrongToken as wrong:
        try:
            caller = await find_caller_late(kernel, wrong, client)
        except WrongToken:
            caller = None
    if caller is None:
        raise Denied(WRONG)
    return caller


def check_id(text: str) -> str:
    """An id as we write it. Raises Invalid."""
    if not _UUID.fullmatch(text):
        raise Invalid(f"Invalid UUID format: {text}")
    return text.lower()


def find_target(kernel: Kernel, caller: Caller, id: str) -> Target:
    """The function of the caller's account with this id. Raises NotFound."""
    target = kernel.index.get(NAME, caller.account_id, id)
    if target is None:
        raise NotFound(f"Function not found: {id}")
    return target


async def read_input(request: HotRequest) -> bytes:
    """The compact text of what a function shall be executed with. Raises TooLarge, WrongType, Invalid."""
    body = await _read_body(request)
    if not body:
        return jsontext.EMPTY
    quick = jsontext.quick_input(body) if len(body) <= SMALL_BYTES else None
    return await _read(body, _any_input) if quick is None else quick


def _any_input(body: bytes) -> bytes:
    return jsontext.quick_input(body) or jsontext.read_input(body)


async def read_object(request: HotRequest) -> dict[str, Any]:
    """The JSON object in the body. Raises TooLarge, WrongType, Invalid."""
    return await _read(await _read_body(request), _object)


def _object(body: bytes) -> dict[str, Any]:
    if not body.strip():
        raise NotJSON("empty body")
    value = jsontext.parse(body)
    if not isinstance(value, dict):
        raise jsontext.NotObject
    return value


async def _read(body: bytes, read: Callable[[bytes], T]) -> T:
    try:
        if len(body) <= SMALL_BYTES:
            return read(body)
        return await asyncio.get_running_loop().run_in_executor(_reader, read, body)
    except NotJSON as error:
        raise Invalid(f"Malformed JSON request body: {error}") from None
    except jsontext.NotObject:
        raise Invalid("Request body must be a JSON object") from None


async def _read_body(request: HotRequest) -> bytes:
    try:
        body = await request.body(BODY_MAX_BYTES, BODY_DRAIN_BYTES)
    except BodyTooLarge as error:
        raise TooLarge(f"Request body is too large (limit {BODY_MAX_BYTES} bytes)", error.headers) from None
    headers = request.headers
    if headers.memo is None:
        headers.memo = header(headers.fields, b"content-type")
    if not _is_json(headers.memo) and (headers.memo or body):
        raise WrongType(f"Content type '{headers.memo or 'null'}' is not supported. Use application/json")
    return body


@lru_cache(maxsize=256)
def _is_json(content_type: str) -> bool:
    return _JSON.fullmatch(content_type) is not None
