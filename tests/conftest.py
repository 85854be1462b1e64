"""Real servers for tests: one for all that only needs a server, and a maker for tests that treat theirs badly."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack

import pytest

from tests.server import Server

ADMIN_KEY = "admin-key-only-for-tests-5d0c7e"
LOG_CHARACTERS = 8000


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running server, without rate limits, shared by the whole run; tests name what they make uniquely."""
    env = {"SPINNEY_ADMIN_KEY": ADMIN_KEY, "SPINNEY_NO_RATE_LIMITS": "true"}
    with Server(tmp_path_factory.mktemp("server") / "data", env=env) as shared:
        yield shared


@pytest.fixture(scope="module")
def guarded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that is bound to more than loopback and therefore asks for tokens."""
    data_dir = tmp_path_factory.mktemp("guarded") / "data"
    with Server(data_dir, host="0.0.0.0", env={"SPINNEY_ADMIN_KEY": ADMIN_KEY}) as guarded:
        yield guarded


@pytest.fixture
def make_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Start a server of this test's own: ``make_server("--root", "impuls", env={...})``."""
    with ExitStack() as stack:

        def make(*flags: str, **options: object) -> Server:
            data_dir = tmp_path_factory.mktemp("own") / "data"
            return stack.enter_context(Server(data_dir, *flags, **options))  # type: ignore[arg-type]

        yield make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of the server's output under a failed test."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            log = value.log() if isinstance(value, Server) else ""
            if log:
                report.sections.append(("server output", log[-LOG_CHARACTERS:]))
    return report
