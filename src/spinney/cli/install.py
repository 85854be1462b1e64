"""``spinney install``: bring the language runtimes that the system lacks."""

from __future__ import annotations

from typing import Annotated

import typer

from spinney.runtimes.install import install as install_runtimes


def install(
    names: Annotated[list[str] | None, typer.Argument(metavar="[RUNTIME]...", help="Such as node22; none: all.")] = None,
) -> None:
    """Install language runtimes beside this program."""
    for name, path in install_runtimes(names or (), say=typer.echo).items():
        typer.echo(f"{name}\t{path}")
