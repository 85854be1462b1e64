"""What most tests of the Fluxbase API start from."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import ADMIN_KEY
from tests.dialects.fluxbase.api import Api, Function
from tests.server import Server

_accounts = itertools.count(1)


@pytest.fixture(scope="session")
def api(server: Server) -> Iterator[Api]:
    """The shared server, by the admin key: account ``default``."""
    client = Api(server.url + "/fluxbase", ADMIN_KEY)
    yield client
    client.close()


@pytest.fixture(scope="session")
def anonymous(server: Server) -> Iterator[Api]:
    """The shared server without a token."""
    client = Api(server.url + "/fluxbase")
    yield client
    client.close()


@pytest.fixture
def connect() -> Iterator[Callable[..., Api]]:
    """Make further clients: ``connect(server, token)``."""
    made: list[Api] = []

    def make(server: Server, token: str | None = ADMIN_KEY, mount: str = "/fluxbase") -> Api:
        made.append(Api(server.url + mount, token))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def own_account(server: Server, connect: Callable[..., Api]) -> Api:
    """An account on the shared server that has nothing in it yet."""
    return connect(server, server.token(account=f"fluxbase-{next(_accounts)}"))


@pytest.fixture(scope="session")
def echo(api: Api) -> Function:
    """Answers with everything that it sees of its request."""
    return api.handler("return req")


@pytest.fixture(scope="session")
def js(api: Api) -> Function:
    """Evaluates the JavaScript that is its body, as a JSON string; promises are awaited."""
    return api.handler("return await eval(await req.json())", memory_limit_mb=256)
