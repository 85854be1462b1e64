"""``spinney invoke``: call a function of a running server."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import httpx2
import typer

from spinney.cli.output import console, problems
from spinney.errors import Invalid, Unavailable

PATHS = {name: f"/{name}/api/v1/functions/{{name}}/invoke" for name in ("impuls", "fluxbase")}


def invoke(
    name: Annotated[str, typer.Argument(help="The function's name.")],
    data: Annotated[str, typer.Option("--data", "-d", help="The event: JSON, @FILE, or - for standard input.")] = "{}",
    dialect: Annotated[str, typer.Option(help="The API it was made with.")] = "impuls",
    url: Annotated[str, typer.Option(help="Where the server is.")] = "http://127.0.0.1:8080",
    token: Annotated[str | None, typer.Option(envvar="SPINNEY_TOKEN", help="Bearer token, where the server wants one.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait.")] = 930.0,
) -> None:
    """Print what the function answered. Exit code 0 for an answer below 400, 1 otherwise."""
    if dialect not in PATHS:
        raise Invalid(f"dialect: must be one of {', '.join(PATHS)}", "dialect")
    headers = {"authorization": f"Bearer {token}"} if token else {}
    target = url.rstrip("/") + PATHS[dialect].format(name=quote(name, safe=""))
    try:
        answer = httpx2.post(target, content=_event(data), headers=headers, timeout=timeout)
    except httpx2.HTTPError as error:
        raise Unavailable(f"{url}: {error or type(error).__name__}") from None
    if console.is_terminal and answer.headers.get("content-type", "").startswith("application/json"):
        console.print_json(answer.text)
    else:
        typer.echo(answer.text)
    if answer.status_code >= 400:
        problems.print(f"HTTP {answer.status_code}", markup=False)
        raise typer.Exit(1)


def _event(data: str) -> bytes:
    if data == "-":
        return sys.stdin.buffer.read()
    if data.startswith("@"):
        try:
            return Path(data[1:]).read_bytes()
        except OSError as error:
            raise Invalid(f"{data[1:]}: {error.strerror}", "data") from None
    return os.fsencode(data)
