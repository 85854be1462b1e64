"""The results of one run: shown as tables, kept as JSON."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from bench.load import Load
from bench.servers import node

DIRECTORY = Path(__file__).with_name("results")


class Bar(NamedTuple):
    """A figure and what it must reach."""

    name: str
    value: float
    unit: str
    limit: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    @property
    def rule(self) -> str:
        return f"at {'least' if self.at_least else 'most'} {self.limit:g}"


class Results:
    """Collected by the scenarios in the order in which they measure."""

    def __init__(self) -> None:
        self.began = datetime.now(UTC)
        self.loads: list[tuple[str, int, Load, float]] = []
        self.figures: list[tuple[str, float, str]] = []
        self.bars: list[Bar] = []

    def load(self, server: str, connections: int, load: Load, ratio: float) -> None:
        """What wrk saw of a server; ``ratio`` is its throughput by the baseline's."""
        self.loads.append((server, connections, load, ratio))

    def figure(self, name: str, value: float, unit: str = "") -> None:
        """Something measured for information."""
        self.figures.append((name, value, unit))

    def at_most(self, limit: float, name: str, value: float, unit: str = "") -> None:
        """Something measured that may not be more than ``limit``."""
        self.bars.append(Bar(name, value, unit, limit))

    def at_least(self, limit: float, name: str, value: float, unit: str = "") -> None:
        """Something measured that may not be less than ``limit``."""
        self.bars.append(Bar(name, value, unit, limit, at_least=True))

    @property
    def missed(self) -> list[Bar]:
        return [bar for bar in self.bars if not bar.met]

    def show(self, console: Console) -> None:
        """Print a table of each sort of result there is."""
        for table in (self._load_table(), self._figure_table(), self._bar_table()):
            if table.row_count:
                console.print(table)

    def _load_table(self) -> Table:
        table = _table("Load", "server", "connections", "requests/s", "of ASGI echo", "p50 ms", "p99 ms", "failed")
        for server, connections, load, ratio in self.loads:
            times = (_number(load.p50_ms), _number(load.p99_ms), f"{load.failures:.0f}")
            table.add_row(server, str(connections), f"{load.per_second:,.0f}", f"{ratio:.2f}", *times)
        return table

    def _figure_table(self) -> Table:
        table = _table("Figures", "what", "measured", "unit")
        for name, value, unit in self.figures:
            table.add_row(name, _number(value), unit)
        return table

    def _bar_table(self) -> Table:
        table = _table("Bars", "what", "measured", "unit", "bar", "")
        for bar in self.bars:
            verdict = "[green]met[/]" if bar.met else "[bold red]MISSED[/]"
            table.add_row(bar.name, _number(bar.value), bar.unit, bar.rule, verdict)
        return table

    def write(self) -> Path:
        """Keep everything, with what machine it was, in a file named for the time; its path."""
        DIRECTORY.mkdir(exist_ok=True)
        path = DIRECTORY / f"{self.began:%Y%m%dT%H%M%SZ}.json"
        loads = [
            {"server": server, "connections": connections, "ratio": ratio, **load._asdict()}
            for server, connections, load, ratio in self.loads
        ]
        figures = [{"name": name, "value": value, "unit": unit} for name, value, unit in self.figures]
        bars = [{**bar._asdict(), "met": bar.met} for bar in self.bars]
        document = {"at": self.began.isoformat(), "machine": machine(), "loads": loads, "figures": figures, "bars": bars}
        path.write_text(json.dumps(document, indent=1) + "\n")
        return path


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        right = column not in ("", "unit", "bar") and index > 0
        table.add_column(column, justify="right" if right else "left")
    return table


def _number(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpu": _field(Path("/proc/cpuinfo"), "model name"),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30), 1),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", ""),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "node": _first_line(node(), "--version"),
        "runc": _first_line("runc", "--version"),
        "wrk": _first_line("wrk", "--version"),
        "spinney": version("spinney"),
        "commit": _first_line("git", "rev-parse", "HEAD"),
    }


def _field(file: Path, name: str) -> str:
    lines = (line.partition(":") for line in file.read_text().splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == name), "")


def _first_line(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    output = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return output.splitlines()[0] if output else ""
