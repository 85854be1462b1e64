"""What ``ai`` and ``email`` have in common: keys from the function's variables, JSON there and back, what is kept of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from spinney.core.entries import Entries
from spinney.core.masking import mask_json
from spinney.core.services.asker import Asker
from spinney.errors import Unavailable
from spinney.ports import Web, WebRequest, WebResponse

RESPONSE_BYTES_MAX = 2 << 20
RESPONSE_BYTES_KEPT = 256 << 10
"""Looking through more for secrets would hold up everybody else."""
Shape = TypeVar("Shape")


class Provider:
    """Somebody else's service, used with the function's own key, which no sandbox and no redirect gets to see."""

    def __init__(self, web: Web, entries: Entries) -> None:
        self._web = web
        self._entries = entries

    async def variable(self, asker: Asker, name: str) -> str:
        """One of the function's variables; empty when it has none of this name."""
        value = await self._entries.get(asker.environment, name.encode())
        return (value or b"").decode("utf-8", "replace")

    async def post(self, url: str, headers: Mapping[str, str], body: str, timeout_s: float) -> WebResponse:
        """Send JSON text. Redirects are not followed: they would take the key along."""
        return await self._web.fetch(
            WebRequest(
                method="POST",
                url=url,
                headers=[("Content-Type", "application/json"), *headers.items()],
                body=body.encode("utf-8", "replace"),
                timeout_s=timeout_s,
                redirects=0,
                limit_bytes=RESPONSE_BYTES_MAX,
            )
        )


def to_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def read_response(body: bytes, shape: type[Shape]) -> Shape:
    """A provider's JSON. Raises Unavailable when it has another shape."""
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Unavailable(f"failed to parse response: {error}") from None
    except RecursionError:
        raise Unavailable("failed to parse response: it is too deep") from None


def kept(body: bytes) -> str:
    """What is kept of a provider's response."""
    if len(body) > RESPONSE_BYTES_KEPT:
        return f"[NOT KEPT - {len(body)} bytes]"
    return mask_json(body.decode("utf-8", "replace"))
