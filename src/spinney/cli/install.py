"""``spinney install``: bring the language runtimes and compilers that the system lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spinney.runtimes import install as toolchains
from spinney.runtimes import kits, packages


def install(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Such as node22, assemblyscript, go; none: all.")
    ] = None,
) -> None:
    """Install language runtimes and compilers beside this program."""
    wanted = set(names or ())
    by_npm, by_us = wanted.intersection(packages.names()), wanted.intersection(kits.names())
    found: dict[str, Path] = {}
    for part, bring in (
        (wanted - by_npm - by_us, toolchains.install),
        (by_npm, packages.install),
        (by_us, kits.install),
    ):
        if part or not wanted:
            found |= bring(sorted(part), say=typer.echo)
    for name, path in found.items():
        typer.echo(f"{name}\t{path}")
