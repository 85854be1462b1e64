"""The hot-route trie finds what was added, and only that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.http.trie import Trie
from spinney.http.wire import Receive, Scope, Send


async def handler(scope: Scope, receive: Receive, send: Send, parameters: list[str]) -> None: ...


async def other(scope: Scope, receive: Receive, send: Send, parameters: list[str]) -> None: ...


@pytest.fixture
def trie() -> Trie:
    trie = Trie()
    trie.add("POST", "/impuls/api/v1/functions/{name}/invoke", handler)
    trie.add("POST", "/impuls/api/v1/functions/special/invoke", other)
    return trie


def test_parameters_come_decoded(trie: Trie) -> None:
    assert trie.match("POST", "/impuls/api/v1/functions/a%2Fb%20c/invoke") == (handler, ["a/b c"])


def test_a_literal_wins_over_a_parameter(trie: Trie) -> None:
    assert trie.match("POST", "/impuls/api/v1/functions/special/invoke") == (other, [])


@pytest.mark.parametrize(
    "method,path",
    [
        ("GET", "/impuls/api/v1/functions/x/invoke"),
        ("POST", "/impuls/api/v1/functions//invoke"),
        ("POST", "/impuls/api/v1/functions/x/invoke/"),
        ("POST", "/impuls/api/v1/functions/x"),
        ("POST", "/api/v1/functions/x/invoke"),
        ("POST", "/"),
        ("POST", "*"),
        ("POST", ""),
    ],
)
def test_nothing_else_matches(trie: Trie, method: str, path: str) -> None:
    assert trie.match(method, path) is None


def test_a_route_twice_is_an_error(trie: Trie) -> None:
    with pytest.raises(ValueError, match="two handlers"):
        trie.add("POST", "/impuls/api/v1/functions/{other}/invoke", other)


@given(st.text())
def test_any_path_is_survived(path: str) -> None:
    trie = Trie()
    trie.add("GET", "/a/{b}/c", handler)
    found = trie.match("GET", path)
    assert found is None or path.startswith("/a/")
