"""``spinney token``: make, list and revoke bearer tokens. A running server notices within a second."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.table import Table

from spinney.app import make_store, make_token_book, prepare_data_dir
from spinney.cli.output import console, read_settings
from spinney.core.tokens import TokenBook
from spinney.errors import Invalid
from spinney.model import DEFAULT_ACCOUNT, Token

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke bearer tokens.")

Result = TypeVar("Result")
DataDir = Annotated[Path | None, typer.Option(help="The server's data directory.", show_default="./data")]
Config = Annotated[Path | None, typer.Option(help="Settings in TOML.")]
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _with_book(config: Path | None, data_dir: Path | None, work: Callable[[TokenBook], Awaitable[Result]]) -> Result:
    settings = read_settings(config, dict(os.environ), data_dir=data_dir)
    prepare_data_dir(settings.data_dir)

    async def run() -> Result:
        store = make_store(settings)
        await store.open()
        try:
            return await work(make_token_book(settings, store))
        finally:
            await store.close()

    return asyncio.run(run())


@app.command()
def create(
    name: Annotated[str, typer.Option(help="What the token is for.")] = "token",
    account: Annotated[str, typer.Option(help="The account it acts for; made when new.")] = DEFAULT_ACCOUNT,
    scope: Annotated[list[str] | None, typer.Option(help="Restrict it; may be repeated. None: everything.")] = None,
    expires: Annotated[str | None, typer.Option(help="Lifetime, such as 12h or 30d.")] = None,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Print a new token. It is shown this once and cannot be shown again."""
    lifetime_s = None if expires is None else _seconds(expires)
    _, secret = _with_book(
        config, data_dir, lambda book: book.create(name, account=account, scopes=scope or (), lifetime_s=lifetime_s)
    )
    typer.echo(secret)


@app.command("list")
def list_tokens(data_dir: DataDir = None, config: Config = None) -> None:
    """Show all tokens, never their secrets."""
    tokens = _with_book(config, data_dir, lambda book: book.find())
    rows = [
        (t.id, t.name, a.name if a else t.account_id, _state(t), _time(t.created_at), _time(t.last_used_at)) for t, a in tokens
    ]
    if not console.is_terminal:
        for row in rows:
            typer.echo("\t".join(row))
        return
    table = Table("id", "name", "account", "state", "created", "last used", box=None)
    for row in rows:
        table.add_row(*row)
    console.print(table)


@app.command()
def revoke(
    token: Annotated[str, typer.Argument(help="Its id, the start of its id, or its name.")],
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Make a token useless."""
    revoked = _with_book(config, data_dir, lambda book: book.revoke(token))
    typer.echo(f"revoked {revoked.id} ({revoked.name})")


def _seconds(text: str) -> float:
    number, unit = text[:-1], text[-1:]
    if not number.isdigit() or unit not in UNITS or not int(number):
        raise Invalid("expires: a number and one of s, m, h, d, such as 30d", "expires")
    return int(number) * UNITS[unit]


def _state(token: Token) -> str:
    if token.revoked_at is not None:
        return "revoked"
    expired = token.expires_at is not None and token.expires_at <= datetime.now(UTC).timestamp()
    return "expired" if expired else "active"


def _time(seconds: float | None) -> str:
    return "never" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
