"""``spinney install``: bring the language runtimes and compilers that the system lacks."""

from __future__ import annotations

from typing import Annotated

import typer

from spinney.runtimes import packages
from spinney.runtimes.install import install as install_runtimes


def install(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Such as node22, assemblyscript; none: all.")
    ] = None,
) -> None:
    """Install language runtimes and compilers beside this program."""
    wanted = set(names or ())
    by_npm = wanted.intersection(packages.names())
    found = {}
    if wanted != by_npm or not wanted:
        found |= install_runtimes(sorted(wanted - by_npm), say=typer.echo)
    if by_npm or not wanted:
        found |= packages.install(sorted(by_npm), say=typer.echo)
    for name, path in found.items():
        typer.echo(f"{name}\t{path}")
