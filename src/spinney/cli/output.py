"""How the commands talk: rich for people, plain and quiet for pipes."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import structlog
from rich.console import Console

from spinney.config import Settings, load
from spinney.errors import Error, Invalid

console = Console(highlight=False, soft_wrap=True)
problems = Console(stderr=True, highlight=False, soft_wrap=True)


def fail(error: Error) -> int:
    """Say what went wrong in one line; the exit code for it."""
    problems.print(f"spinney: {error.message}", style="red" if problems.is_terminal else None, markup=False)
    return 2 if isinstance(error, Invalid) else 1


def read_settings(config: Path | None, environment: dict[str, str], **flags: Any) -> Settings:
    """Settings from file, environment and flags; flags that are None were not given."""
    return load(config, environment, flags)


def configure_logs(log_format: str) -> None:
    """Structured logs to standard error: coloured for a terminal, one JSON object a line otherwise."""
    human = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    renderer: Any = structlog.dev.ConsoleRenderer() if human else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if not human else _unchanged,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_Forward()], force=True)


def _unchanged(_logger: Any, _name: str, event: Any) -> Any:
    return event


class _Forward(logging.Handler):
    """What libraries log goes the same way."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger(record.name).log(record.levelno, record.getMessage(), exc_info=record.exc_info)
