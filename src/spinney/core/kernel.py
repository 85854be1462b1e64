"""What a dialect may use: the services of the core, in one place, and nothing of what stands behind them."""

from __future__ import annotations

import os
from collections.abc import Mapping

from spinney.core.background import Background, Run
from spinney.core.functions import Functions
from spinney.core.index import Index, Target
from spinney.core.invoke import Invoker
from spinney.core.metrics import BUCKETS_S, Metrics
from spinney.core.record import Records
from spinney.core.tokens import ANONYMOUS, Caller, Tokens
from spinney.ports import Clock, Runtime

__all__ = ["ANONYMOUS", "BUCKETS_S", "Caller", "Kernel", "Metrics", "Run", "Target", "new_id"]


class Kernel:
    """Built once by ``app.build``; every dialect gets the same one."""

    def __init__(
        self,
        *,
        clock: Clock,
        index: Index,
        functions: Functions,
        invoker: Invoker,
        records: Records,
        background: Background,
        tokens: Tokens,
        metrics: Metrics,
        runtimes: Mapping[str, Runtime],
        open_access: bool,
    ) -> None:
        self.clock = clock
        self.index = index
        self.functions = functions
        self.invoker = invoker
        self.records = records
        self.background = background
        self.tokens = tokens
        self.metrics = metrics
        self.runtimes = runtimes
        self.open_access = open_access
        """True when the server is bound to a loopback address: dialects that allow it need no token there."""


_HEX = "0123456789abcdef"


def new_id() -> str:
    """A random UUID (version 4) as text; several times faster than ``uuid.uuid4``."""
    raw = os.urandom(16).hex()
    return f"{raw[:8]}-{raw[8:12]}-4{raw[13:16]}-{_HEX[8 | int(raw[16], 16) & 3]}{raw[17:20]}-{raw[20:]}"
