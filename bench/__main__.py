"""``python -m bench``: measure everything in one run, show it, keep it."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Annotated

import typer
from rich.console import Console

from bench import scenarios
from bench.fluxbase import fluxbase
from bench.load import require_wrk
from bench.lunar import lunar
from bench.nil import nil
from bench.report import Results
from bench.wasm import wasm

console = Console(highlight=False, width=110, soft_wrap=True)


def bench(
    seconds: Annotated[float, typer.Option(help="Length of one run of wrk.")] = 3,
    rounds: Annotated[int, typer.Option(help="Runs of wrk for each server and number of connections.")] = 3,
    density: Annotated[bool, typer.Option(help="Deploy 1,000 functions and call each.")] = True,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 when a bar is missed.")] = False,
    only: Annotated[str | None, typer.Option(metavar="SCENARIO", help="Measure this alone.")] = None,
) -> None:
    """Measure Spinney beside plain servers on this machine. Takes about seven minutes and wants the machine for itself."""
    try:
        require_wrk()
    except RuntimeError as error:
        console.print(f"bench: {error}")
        raise typer.Exit(1) from None
    results = Results()
    for name, scenario in _chosen(seconds, rounds, density, only).items():
        began = time.perf_counter()
        scenario(results)
        console.print(f"{name}: measured in {time.perf_counter() - began:.0f} s")
    results.show(console)
    console.print(f"kept in {results.write()}")
    if results.missed:
        console.print(f"[bold red]MISSED[/]: {len(results.missed)} of {len(results.bars)} bars")
    raise typer.Exit(1 if strict and results.missed else 0)


def _chosen(seconds: float, rounds: int, density: bool, only: str | None) -> dict[str, Callable[[Results], None]]:
    every: dict[str, Callable[[Results], None]] = {
        "warm": partial(scenarios.warm, seconds=seconds, rounds=rounds),
        "fluxbase": partial(fluxbase, seconds=seconds, rounds=rounds),
        "lunar": partial(lunar, seconds=seconds, rounds=rounds),
        "nil": partial(nil, seconds=seconds, rounds=rounds),
        "cold-by-stem": scenarios.cold_by_stem,
        "cold-from-nothing": scenarios.cold_from_nothing,
        "idle-memory": scenarios.idle_memory,
        "density": scenarios.density,
        "drain": scenarios.drain,
        "wasm": wasm,
    }
    if only is not None:
        if only not in every:
            raise typer.BadParameter(f"there are {', '.join(every)}")
        return {only: every[only]}
    if not density:
        del every["density"]
    return every


if __name__ == "__main__":
    typer.run(bench)
