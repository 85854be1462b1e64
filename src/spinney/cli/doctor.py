"""``spinney doctor``: what this machine can isolate and run, and what is missing."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from spinney.app import make_compilers, make_driver, prepare_data_dir, runtimes_by_id
from spinney.cli.output import configure_logs, console, read_settings
from spinney.core.selfcheck import CheckResult, check_compiler, self_check
from spinney.core.stems import Kind
from spinney.errors import Error
from spinney.model import Rights
from spinney.ports import Driver, Limits
from spinney.runtimes import kits

GOOD, BAD, NOTE = "ok", "missing", "note"


def doctor(
    data_dir: Annotated[Path | None, typer.Option(help="The server's data directory.", show_default="./data")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings in TOML.")] = None,
) -> None:
    """Check this machine. Exit code 0 when functions can run here, 1 otherwise."""
    configure_logs("console")
    settings = read_settings(config, dict(os.environ), data_dir=data_dir)
    prepare_data_dir(settings.data_dir)
    driver_settings = settings.model_copy(update={"data_dir": settings.data_dir / "doctor"})
    try:
        driver = make_driver(driver_settings)
    except Error as error:
        _line(BAD, "isolation", error.message)
        raise typer.Exit(1) from None
    features = driver.features
    _line(GOOD, "isolation", features.tier)
    for name in ("network", "checkpoint", "pause", "pty", "limits_memory", "limits_cpu", "limits_pids"):
        _line(GOOD if getattr(features, name) else NOTE, name.replace("_", " "), "yes" if getattr(features, name) else "no")
    for note in features.notes:
        _line(NOTE, "isolation", note)
    raise typer.Exit(0 if asyncio.run(_languages(driver)) else 1)


async def _languages(driver: Driver) -> bool:
    """Run a function of each runtime and a build of each compiler; whether every one works."""
    healthy = True
    try:
        for name, runtime in runtimes_by_id().items():
            version = runtime.installed().get(name)
            if version is None:
                healthy = _missing(name, "spinney install")
                continue
            result = await self_check(runtime, name, version, Kind(runtime.launch(name, Rights()), Limits()), driver)
            healthy = _tell(result, "starts") and healthy
        for compiler in make_compilers():
            for language in compiler.languages:
                if language not in compiler.installed():
                    healthy = _missing(language, _command(compiler.name))
                    continue
                healthy = _tell(await check_compiler(compiler, language, driver), "compiler starts") and healthy
    finally:
        await driver.close()
    return healthy


def _command(compiler: str) -> str:
    return kits.command(compiler) if compiler in kits.names() else f"spinney install {compiler}"


def _missing(name: str, command: str) -> bool:
    _line(BAD, name, f"not installed: run `{command}`")
    return False


def _tell(result: CheckResult, starts: str) -> bool:
    _line(
        GOOD if result.problem is None else BAD,
        result.runtime,
        result.problem or f"{result.version}, {starts} in {result.start_ms:.0f} ms",
    )
    return result.problem is None


def _line(state: str, name: str, text: str) -> None:
    colour = {GOOD: "green", BAD: "red", NOTE: "yellow"}[state]
    mark = f"[{colour}]{state:<8}[/]" if console.is_terminal else f"{state:<8}"
    console.print(mark, f"{name:<15}", end="")
    console.print(text, markup=False)
