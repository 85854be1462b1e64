"""The ``spinney`` command; one file per group of commands."""

from __future__ import annotations

import sys

import typer

from spinney.cli import doctor, install, invoke, serve, token
from spinney.cli.output import fail
from spinney.errors import Error

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Functions and sandboxes on your own machines.",
)
app.command("serve")(serve.serve)
app.command("invoke")(invoke.invoke)
app.command("doctor")(doctor.doctor)
app.command("install")(install.install)
app.add_typer(token.app, name="token")


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 130 interrupted."""
    try:
        app()
    except Error as error:
        sys.exit(fail(error))
    except KeyboardInterrupt:
        sys.exit(130)
