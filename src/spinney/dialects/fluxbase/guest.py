"""What a run hands to the guest beside the body, and what it may say beside its own (contract 3.3, 3.4).

Both are the JSON texts that travel as ``meta`` on the guest channel.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

import msgspec

from spinney.http.bearer import bearer
from spinney.http.wire import JSON_TYPE, Headers

LENGTH = "\0"
"""Stands for the length while the rest of a meta is made: no header holds it, the parser refuses it."""
CACHED_MAX_BYTES = 512
DROPPED = frozenset(
    ("connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer", "content-length", "x-execution-id")
)
"""Headers that are not the function's to set, beside ``proxy-*``: how this one connection works, and which run it was."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_VALUE = re.compile(r"[^\0\r\n\u0100-\U0010ffff]*")
_encode = msgspec.json.Encoder().encode


class RequestMeta(msgspec.Struct, omit_defaults=True):
    """A request as the code sees it, without its body."""

    method: str
    url: str
    headers: list[tuple[str, str]]
    user_id: str | None = None


class MetaTemplate(NamedTuple):
    """The meta of all requests that differ in their bodies only."""

    before: bytes
    after: bytes

    def fill(self, length: int) -> bytes:
        """The meta for a body of so many bytes."""
        return b'%b"%d"%b' % (self.before, length, self.after) if self.after else self.before


def template(method: str, url: str, headers: Headers, user_id: str | None) -> MetaTemplate:
    """From headers as they came: Bearer credentials stay behind, for the code learns who calls, not how to call as them."""
    fields = []
    for raw_name, raw_value in headers:
        name = raw_name.decode("latin-1")
        if name == "content-length":
            fields.append((name, LENGTH))
        elif name != "authorization" or bearer(raw_value) is None:
            fields.append((name, raw_value.decode("latin-1")))
    before, _, after = _encode(RequestMeta(method, url, fields, user_id)).partition(_encode(LENGTH))
    return MetaTemplate(before, after)


class ReplyHead(msgspec.Struct):
    """Status and headers of a function's reply."""

    status: int
    headers: list[tuple[str, str]] = []


class MalformedReply(ValueError):
    """No guest of ours says that."""


_decode = msgspec.json.Decoder(ReplyHead).decode


def reply_head(meta: bytes) -> tuple[int, Headers]:
    """Status and headers that may go to a client, whoever wrote ``meta``. Raises MalformedReply."""
    if not meta:
        return 200, [JSON_TYPE]
    status, headers = _cached_head(meta) if len(meta) <= CACHED_MAX_BYTES else _read_head(meta)
    return status, list(headers)


def _read_head(meta: bytes) -> tuple[int, tuple[tuple[bytes, bytes], ...]]:
    try:
        head = _decode(meta)
    except (msgspec.DecodeError, RecursionError):
        raise MalformedReply from None
    if not 200 <= head.status <= 599:
        raise MalformedReply
    return head.status, tuple(_header(name, value) for name, value in head.headers if not _dropped(name.lower()))


_cached_head = lru_cache(maxsize=1024)(_read_head)


def _dropped(name: str) -> bool:
    return name in DROPPED or name.startswith("proxy-")


def _header(name: str, value: str) -> tuple[bytes, bytes]:
    if not (_NAME.fullmatch(name) and _VALUE.fullmatch(value)):
        raise MalformedReply
    return name.encode(), value.encode("latin-1")
