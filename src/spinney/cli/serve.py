"""``spinney serve``: the server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
from pathlib import Path
from typing import Annotated

import structlog
import typer
import uvloop

from spinney.app import App, build, memory_budget
from spinney.cli.output import configure_logs, console, read_settings
from spinney.config import Settings
from spinney.errors import Invalid
from spinney.http.address import join_port
from spinney.http.server import Server

log = structlog.get_logger("spinney")

BACKLOG = 4096


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 picks one.", show_default="8080")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where everything is kept.", show_default="./data")] = None,
    root: Annotated[str | None, typer.Option(metavar="DIALECT", help="Serve this API at / as well.")] = None,
    isolation: Annotated[str | None, typer.Option(help="auto, oci or microvm.", show_default="auto")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings in TOML.")] = None,
    no_rate_limits: Annotated[bool, typer.Option("--no-rate-limits", help="Switch all rate limits off.")] = False,
    egress_allow: Annotated[
        list[str] | None,
        typer.Option(metavar="CIDR", help="Private network that functions with network may reach; may be repeated."),
    ] = None,
    self_check: Annotated[
        bool, typer.Option("--self-check", help="First run one function of each runtime and show its answer.")
    ] = False,
) -> None:
    """Run the server until it is told to stop (SIGTERM drains)."""
    settings = read_settings(
        config,
        dict(os.environ),
        host=host,
        port=port,
        data_dir=data_dir,
        root=root,
        isolation=isolation,
        no_rate_limits=no_rate_limits or None,
        egress_allow=egress_allow or None,
    )
    configure_logs(settings.log_format)
    _raise_file_limit()
    raise typer.Exit(uvloop.run(_main(settings, self_check)))


async def _main(settings: Settings, self_check: bool) -> int:
    listener = _listen(settings)
    with contextlib.closing(listener):
        settings = settings.model_copy(update={"port": listener.getsockname()[1]})
        app = build(settings)
        server = Server(app.front, drain_s=settings.drain_s)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _drain, server, app)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        starting = asyncio.create_task(_start(app, settings, self_check))
        try:
            await asyncio.wait((serving, starting), return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                await starting
            await serving
            return 0
        finally:
            await _finish(server, serving, starting)
            await app.close()


def _drain(server: Server, app: App) -> None:
    server.stop()
    app.stop()


async def _start(app: App, settings: Settings, self_check: bool) -> None:
    await app.start()
    if self_check:
        app.reason = "starting: checking runtimes"
        await _show_check(app)
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
    app.serve()
    authority = join_port(settings.host, settings.port)
    tier, budget = app.driver.features.tier, memory_budget(settings) >> 20
    console.print(f"Spinney is serving on http://{authority} (isolation {tier}, {budget} MB for sandboxes)", markup=False)


async def _show_check(app: App) -> None:
    for result in await app.check_runtimes():
        if result.problem is None:
            times = f"{result.start_ms:.0f} ms to start, {result.call_ms:.1f} ms to load and answer"
            console.print(f"{result.runtime:<12} {result.version:<10} {result.answer}  {times}", markup=False)
        else:
            console.print(f"{result.runtime:<12} {result.version:<10} does not work: {result.problem}", markup=False)


async def _finish(server: Server, serving: asyncio.Task[None], starting: asyncio.Task[None]) -> None:
    """Whatever ended the wait, both tasks are over after this."""
    server.stop()
    starting.cancel()
    await asyncio.gather(serving, starting, return_exceptions=True)


def _listen(settings: Settings) -> socket.socket:
    try:
        family, kind, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        raise Invalid(f"cannot listen on {settings.host} port {settings.port}: {error.strerror or error}") from None
    listener.setblocking(False)
    return listener


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
