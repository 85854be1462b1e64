"""The text of /metrics, made from the core's plain counts when somebody asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector

from spinney.core.kernel import BUCKETS_S, Metrics


class _Figures:
    def __init__(
        self, metrics: Metrics, pool: Mapping[str, int], stems: Mapping[str, int], memory_bytes: int, functions: int
    ) -> None:
        self._metrics = metrics
        self._pool = pool
        self._stems = stems
        self._memory_bytes = memory_bytes
        self._functions = functions

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("spinney_functions", "Functions deployed", value=self._functions)
        yield GaugeMetricFamily("spinney_sandbox_memory_bytes", "Memory of all sandboxes", value=self._memory_bytes)
        yield _gauge(
            "spinney_sandboxes",
            "Sandboxes that hold a function",
            "state",
            {k: self._pool[k] for k in ("idle", "busy", "starting")},
        )
        yield _gauge("spinney_stems", "Booted sandboxes without code", "kind", self._stems)
        yield GaugeMetricFamily("spinney_calls_waiting", "Calls that wait for a sandbox", value=self._pool["waiting"])
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


def exposition(metrics: Metrics, pool: Mapping[str, int], stems: Mapping[str, int], memory_bytes: int, functions: int) -> bytes:
    """Prometheus text. ``pool`` and ``stems`` are counts by state and by kind."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(metrics, pool, stems, memory_bytes, functions))
    ProcessCollector(registry=registry)
    return generate_latest(registry)
