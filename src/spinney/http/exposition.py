"""The text of /metrics, made from the core's plain counts when somebody asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector

from spinney.core.kernel import BUCKETS_S, Metrics


class Counts(NamedTuple):
    """What there is now. ``pool`` and ``builds`` by state, ``stems`` and ``workshop`` (idle compilers) by kind."""

    pool: Mapping[str, int]
    stems: Mapping[str, int]
    workshop: Mapping[str, int]
    builds: Mapping[str, int]
    memory_bytes: int
    functions: int


class _Figures:
    def __init__(self, metrics: Metrics, counts: Counts) -> None:
        self._metrics = metrics
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        counts = self._counts
        yield GaugeMetricFamily("spinney_functions", "Functions deployed", value=counts.functions)
        yield GaugeMetricFamily("spinney_sandbox_memory_bytes", "Memory of all sandboxes", value=counts.memory_bytes)
        yield _gauge(
            "spinney_sandboxes",
            "Sandboxes that hold a function",
            "state",
            {k: counts.pool[k] for k in ("idle", "busy", "starting")},
        )
        yield _gauge("spinney_stems", "Booted sandboxes without code", "kind", counts.stems)
        yield _gauge("spinney_compilers", "Idle sandboxes of compilers and their tools", "kind", counts.workshop)
        yield _gauge("spinney_builds", "Builds that have not ended", "state", counts.builds)
        yield GaugeMetricFamily("spinney_calls_waiting", "Calls that wait for a sandbox", value=counts.pool["waiting"])
        calls = CounterMetricFamily("spinney_calls", "Calls that ended", labels=["dialect", "outcome"])
        for (dialect, outcome), count in self._metrics.calls.items():
            calls.add_metric([dialect, str(outcome)], count)
        yield calls
        yield self._seconds()

    def _seconds(self) -> Metric:
        seconds = HistogramMetricFamily("spinney_call_seconds", "Time in the sandbox", labels=["dialect"])
        for dialect, counts in self._metrics.seconds.items():
            total, buckets = 0, []
            for bound, count in zip([*map(str, BUCKETS_S), "+Inf"], counts, strict=True):
                total += count
                buckets.append((bound, float(total)))
            seconds.add_metric([dialect], buckets, self._metrics.seconds_sum[dialect])
        return seconds


def _gauge(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def exposition(metrics: Metrics, counts: Counts) -> bytes:
    """Prometheus text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(metrics, counts))
    ProcessCollector(registry=registry)
    return generate_latest(registry)
