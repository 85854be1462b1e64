"""What a call says beside its body, and what an answer does: JSON texts whose strings hold one byte a character (Latin-1)."""

from __future__ import annotations

import json
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # the typing module would only cost start-up time here
    from typing import Any

KEPT_METAS = 16


class Request:
    """The fields of a request that are the same for every call with an equal meta, as a state takes them."""

    def __init__(self, fields: dict[str, Any] | None = None) -> None:
        fields = fields or {}
        context = fields.get("ctx", {})
        headers, query = fields.get("headers", ()), fields.get("query", ())
        self._id = _text(context.get("requestId", ""))
        self._names = tuple(_text(context.get(name, "")) for name in ("functionId", "functionName", "version", "baseUrl"))
        self._place = tuple(_text(fields.get(name, "")) for name in ("method", "path", "relativePath"))
        self._pairs = (len(headers), *(_text(part) for pair in (*headers, *query) for part in pair))

    def arguments(self, id: bytes, body: bytes) -> tuple[Any, ...]:
        """Of one call. id: the execution's, which stands in for a request id that was not given."""
        seed = int.from_bytes(os.urandom(6), "little")
        return (seed, id, time.time(), self._id or id, *self._names, *self._place, body, *self._pairs)


def read_request(meta: bytes) -> Request:
    """From the meta of an invoke frame; without one there are no fields."""
    return Request(json.loads(meta) if meta else None)


def _text(value: str) -> bytes:
    return value.encode("latin-1")


_metas: dict[tuple[int, bytes, bool], bytes] = {}


def write_meta(status: int, headers: bytes, is_base64: bool) -> bytes:
    """The meta of an answer. headers: names and values, a line each."""
    key = (status, headers, is_base64)
    meta = _metas.get(key)
    if meta is None:
        lines = headers.decode("latin-1").split("\n") if headers else []
        fields: dict[str, Any] = {"status": status, "headers": list(zip(lines[::2], lines[1::2], strict=True))}
        if is_base64:
            fields["isBase64Encoded"] = True
        if len(_metas) >= KEPT_METAS:
            _metas.clear()
        meta = _metas[key] = json.dumps(fields).encode()
    return meta
