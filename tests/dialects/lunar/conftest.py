"""What most tests of the Lunar API start from."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import ADMIN_KEY
from tests.dialects.lunar.api import Api, Function
from tests.server import Server

_accounts = itertools.count(1)


@pytest.fixture(scope="session")
def api(server: Server) -> Iterator[Api]:
    """The shared server, by the admin key: account ``default``."""
    client = Api(server.url + "/lunar", ADMIN_KEY)
    yield client
    client.close()


@pytest.fixture
def connect() -> Iterator[Callable[..., Api]]:
    """Make further clients: ``connect(server, token)``."""
    made: list[Api] = []

    def make(server: Server, token: str | None = ADMIN_KEY, mount: str = "/lunar") -> Api:
        made.append(Api(server.url + mount, token))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def anonymous(server: Server, connect: Callable[..., Api]) -> Api:
    """The shared server without a credential."""
    return connect(server, None)


@pytest.fixture
def own_account(server: Server, connect: Callable[..., Api]) -> Api:
    """An account on the shared server that has nothing in it yet."""
    return connect(server, server.token(account=f"lunar-{next(_accounts)}"))


@pytest.fixture(scope="session")
def echo(api: Api) -> Function:
    """Answers with everything that it sees of its request."""
    return api.handler("return { body = json.encode({ ctx = ctx, event = event }) }")


@pytest.fixture(scope="session")
def lua(api: Api) -> Function:
    """Runs the Lua that is its body."""
    return api.handler("return assert(loadstring(event.body))()")
