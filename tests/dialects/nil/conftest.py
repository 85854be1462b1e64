"""What most tests of the NIL API start from."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import ADMIN_KEY
from tests.dialects.nil.api import Api, Function
from tests.dialects.nil.sources import TOOL
from tests.server import Server

_accounts = itertools.count(1)


@pytest.fixture(scope="session")
def api(server: Server) -> Iterator[Api]:
    """The shared server without a token: account ``default``."""
    client = Api(server.url + "/nil")
    yield client
    client.close()


@pytest.fixture
def connect() -> Iterator[Callable[..., Api]]:
    """Make further clients: ``connect(server, token)``."""
    made: list[Api] = []

    def make(server: Server, token: str | None = None, mount: str = "/nil") -> Api:
        made.append(Api(server.url + mount, token))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def admin(server: Server, connect: Callable[..., Api]) -> Api:
    return connect(server, ADMIN_KEY)


@pytest.fixture
def own_account(server: Server, connect: Callable[..., Api]) -> Api:
    """An account on the shared server that has nothing in it yet."""
    return connect(server, server.token(account=f"nil-{next(_accounts)}"))


@pytest.fixture(scope="session")
def echo(api: Api) -> Function:
    return api.function()


@pytest.fixture(scope="session")
def tool(api: Api) -> Function:
    """Does what its input says: see ``sources.TOOL``."""
    return api.function(TOOL)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as threads:
        yield threads
