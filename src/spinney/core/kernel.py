"""What a dialect may use: the services of the core, in one place, and nothing of what stands behind them."""

from __future__ import annotations

from collections.abc import Mapping

from spinney.core.background import Background, Run
from spinney.core.builds import Builds
from spinney.core.cron import check_schedule, next_time
from spinney.core.entries import Entries
from spinney.core.functions import Functions
from spinney.core.ids import execution_time, new_execution_id, new_short_id
from spinney.core.index import Index, Target
from spinney.core.invoke import Invoker
from spinney.core.limits import Quota, RateLimits
from spinney.core.masking import REDACTED, mask_json
from spinney.core.metrics import BUCKETS_S, Metrics
from spinney.core.record import INTERRUPTED, Records, Retention, cut_text
from spinney.core.services.ledger import Ledger
from spinney.core.sessions import LIFETIME_S as SESSION_S
from spinney.core.sessions import Sessions
from spinney.core.tokens import ANONYMOUS, Caller, Tokens
from spinney.ports import Clock, Runtime, Scope

__all__ = [
    "ANONYMOUS",
    "BUCKETS_S",
    "INTERRUPTED",
    "REDACTED",
    "SESSION_S",
    "Caller",
    "Clock",
    "Kernel",
    "Metrics",
    "Quota",
    "Retention",
    "Run",
    "Scope",
    "Target",
    "check_schedule",
    "cut_text",
    "execution_time",
    "mask_json",
    "new_execution_id",
    "new_short_id",
    "next_time",
]


class Kernel:
    """Built once by ``app.build``; every dialect gets the same one."""

    def __init__(
        self,
        *,
        clock: Clock,
        index: Index,
        functions: Functions,
        builds: Builds,
        entries: Entries,
        ledger: Ledger,
        invoker: Invoker,
        records: Records,
        background: Background,
        tokens: Tokens,
        sessions: Sessions,
        limits: RateLimits,
        metrics: Metrics,
        runtimes: Mapping[str, Runtime],
        open_access: bool,
        public_url: str,
    ) -> None:
        self.clock = clock
        self.index = index
        self.functions = functions
        self.builds = builds
        self.entries = entries
        self.ledger = ledger
        self.invoker = invoker
        self.records = records
        self.background = background
        self.tokens = tokens
        self.sessions = sessions
        self.limits = limits
        self.metrics = metrics
        self.runtimes = runtimes
        self.open_access = open_access
        """True when the server is bound to a loopback address: dialects that allow it need no token there."""
        self.public_url = public_url
        """Where the server is for its users, without a slash at the end."""
