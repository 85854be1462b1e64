"""What most tests of the Impuls API start from."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.dialects.impuls.api import Api, Function
from tests.server import Server

_accounts = itertools.count(1)


@pytest.fixture(scope="session")
def api(server: Server) -> Iterator[Api]:
    """The shared server without a token: account ``default``."""
    client = Api(server.url + "/impuls")
    yield client
    client.close()


@pytest.fixture
def connect() -> Iterator[Callable[..., Api]]:
    """Make further clients: ``connect(server, token)``."""
    made: list[Api] = []

    def make(server: Server, token: str | None = None, mount: str = "/impuls") -> Api:
        made.append(Api(server.url + mount, token))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def own_account(server: Server, connect: Callable[..., Api]) -> Api:
    """An account on the shared server that has nothing in it yet."""
    return connect(server, server.token(account=f"account-{next(_accounts)}"))


@pytest.fixture(scope="session")
def echo(api: Api) -> Function:
    return api.node("return event")


@pytest.fixture(scope="session")
def js(api: Api) -> Function:
    """Evaluates the JavaScript that is its event, with ``context`` and ``require`` in scope; promises are awaited."""
    return api.function("exports.handler = async (event, context) => eval(event)", memory_mb=256)


@pytest.fixture(scope="session")
def py(api: Api) -> Function:
    """Runs the Python that is its event and returns what it leaves in ``value``."""
    code = """
        def handler(event, context):
            scope = {"context": context}
            exec(event, scope)
            return scope.get("value")
    """
    return api.python("\n".join(line[8:] for line in code.splitlines()), memory_mb=256)
