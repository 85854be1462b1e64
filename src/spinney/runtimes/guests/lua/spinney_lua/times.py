"""Clocks, and times in Go's reference layouts (Lunar contract 3.7)."""

from __future__ import annotations

import time

TIMES = {b"time.now": time.time}
