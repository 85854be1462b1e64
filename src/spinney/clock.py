"""The machine's own clock, and its time zone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, tzinfo
from io import BytesIO
from pathlib import Path
from zoneinfo import ZoneInfo

LOCALTIME = Path("/etc/localtime")


class SystemClock:
    """Implements ports.Clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def local_zone(environment: Mapping[str, str]) -> tuple[str, tzinfo]:
    """The zone that TZ names, or else the machine's, and what TZ must say elsewhere to mean the same. UTC when unknown."""
    name = environment.get("TZ", str(LOCALTIME.resolve()))
    name = (name.removeprefix(":") or "UTC").rpartition("/zoneinfo/")[2]
    try:
        return name, ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        return _unnamed_zone() if "TZ" not in environment else ("UTC", UTC)


def _unnamed_zone() -> tuple[str, tzinfo]:
    """A zone of which the machine has only the rules: their last line is what TZ can say."""
    try:
        rules = LOCALTIME.read_bytes()
        return rules.splitlines()[-1].decode("ascii"), ZoneInfo.from_file(BytesIO(rules))
    except (OSError, ValueError, IndexError):
        return "UTC", UTC
