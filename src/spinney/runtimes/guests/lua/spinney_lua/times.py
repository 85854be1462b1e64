"""Clocks, and times as text (Lunar contract 3.7)."""

from __future__ import annotations

import time

from .layouts import format_time, parse_time

TYPE_CHECKING = False
if TYPE_CHECKING:  # the typing module would only cost start-up time here
    from collections.abc import Callable
    from typing import Any


def format_at(at: int, layout: bytes) -> bytes | tuple[None, bytes]:
    """A time in the local zone, by a layout that may hold any bytes."""
    try:
        return format_time(at, layout.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
    except (OverflowError, ValueError, OSError):
        return None, b"time out of range"


def parse(text: bytes, layout: bytes) -> int | tuple[None, bytes]:
    """Seconds since the epoch, or why not."""
    try:
        return parse_time(text.decode("utf-8", "surrogateescape"), layout.decode("utf-8", "surrogateescape"))
    except ValueError as error:
        return None, str(error).encode("utf-8", "surrogateescape")


TIMES: dict[bytes, Callable[..., Any]] = {b"time.now": time.time, b"time.format": format_at, b"time.parse": parse}
