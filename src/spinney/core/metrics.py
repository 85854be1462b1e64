"""Counts that the hot path can afford: plain integers, read when somebody asks for /metrics."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)


class Metrics:
    """Calls by dialect and outcome, and how long they took."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()
        self.seconds: dict[str, list[int]] = {}
        self.seconds_sum: defaultdict[str, float] = defaultdict(float)

    def observe(self, dialect: str, outcome: str, duration_s: float) -> None:
        """One call ended."""
        self.calls[dialect, outcome] += 1
        buckets = self.seconds.get(dialect)
        if buckets is None:
            buckets = self.seconds[dialect] = [0] * (len(BUCKETS_S) + 1)
        buckets[bisect_left(BUCKETS_S, duration_s)] += 1
        self.seconds_sum[dialect] += duration_s
