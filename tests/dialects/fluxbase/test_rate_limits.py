"""Rate limits (contract 2.9): what counts, for whom, what it says, and that it holds under many connections."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from tests.api import together, unique
from tests.conftest import ADMIN_KEY
from tests.dialects.fluxbase.api import FUNCTIONS, TRIVIAL, UNAUTHENTICATED, Api, refused
from tests.server import Server

WRITES, LISTS, HISTORY, INVOKES = 6, 7, 4, 40
HEADERS = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with low limits, so that a test reaches them within a window."""
    rates = {"WRITES": WRITES, "LISTS": LISTS, "HISTORY": HISTORY, "INVOKES": INVOKES}
    env = {f"SPINNEY_FLUXBASE_RATE_{group}": str(rate) for group, rate in rates.items()}
    with Server(tmp_path_factory.mktemp("limited") / "data", env={"SPINNEY_ADMIN_KEY": ADMIN_KEY, **env}) as server:
        yield server


@pytest.fixture
def fresh(limited: Server, connect: Callable[..., Api]) -> Api:
    """An account of its own, with a token that has not been used."""
    return connect(limited, limited.token(account=unique("account")))


def remaining(response: httpx2.Response) -> int:
    return int(response.headers["x-ratelimit-remaining"])


def over(response: httpx2.Response, limit: int) -> dict[str, Any]:
    """Check a 429; its body."""
    body = refused(response, 429, "Rate limit exceeded")
    assert set(body) == {"error", "retry_after"}
    assert type(body["retry_after"]) is int
    assert 1 <= body["retry_after"] <= 60
    assert response.headers["retry-after"] == str(body["retry_after"])
    assert response.headers["x-ratelimit-limit"] == str(limit)
    assert response.headers["x-ratelimit-remaining"] == "0"
    assert 0 <= int(response.headers["x-ratelimit-reset"]) - time.time() <= 61
    return body


def test_lists_until_the_limit(fresh: Api) -> None:
    answers = [fresh.send("GET", FUNCTIONS) for _ in range(LISTS)]
    assert [answer.status_code for answer in answers] == [200] * LISTS
    assert [remaining(answer) for answer in answers] == list(range(LISTS))[::-1]
    assert {answer.headers["x-ratelimit-limit"] for answer in answers} == {str(LISTS)}
    assert len({answer.headers["x-ratelimit-reset"] for answer in answers}) == 1
    over(fresh.send("GET", FUNCTIONS), LISTS)
    over(fresh.send("GET", f"{FUNCTIONS}/nothing"), LISTS)


def test_a_refused_write_changes_nothing(fresh: Api) -> None:
    function = fresh.function(TRIVIAL)
    for _ in range(WRITES - 1):
        function.update()
    over(function.put({"description": "too late"}), WRITES)
    over(fresh.post({"name": "late", "code": TRIVIAL}), WRITES)
    over(function.delete(), WRITES)
    kept = function.get()
    assert (kept["version"], kept["description"]) == (WRITES, None)
    assert fresh.names() == [function.name]


def test_whatever_comes_of_them_requests_count(fresh: Api) -> None:
    function = fresh.function(TRIVIAL)
    others = [
        fresh.post({"name": function.name, "code": TRIVIAL}),
        fresh.send("POST", FUNCTIONS, "no JSON"),
        fresh.send("PUT", f"{FUNCTIONS}/nothing", "{}"),
        fresh.send("DELETE", f"{FUNCTIONS}/nothing"),
        function.delete(),
    ]
    assert [answer.status_code for answer in others] == [409, 400, 404, 404, 204]
    assert [remaining(answer) for answer in others] == [4, 3, 2, 1, 0]
    over(function.delete(), WRITES)


def test_groups_do_not_touch_each_other(fresh: Api) -> None:
    function = fresh.function(TRIVIAL)
    history = f"{function.path}/executions"
    assert [fresh.send("GET", history).status_code for _ in range(HISTORY)] == [200] * HISTORY
    over(fresh.send("GET", history), HISTORY)
    assert remaining(fresh.send("GET", function.path)) == LISTS - 1
    assert remaining(function.put({})) == WRITES - 2
    assert fresh.send("GET", f"{history}?limit=x").status_code == 429, "before the query is looked at"


def test_tokens_do_not_touch_each_other(limited: Server, connect: Callable[..., Api]) -> None:
    account = unique("account")
    first, second = (connect(limited, limited.token(account=account)) for _ in range(2))
    for _ in range(LISTS):
        first.send("GET", FUNCTIONS)
    over(first.send("GET", FUNCTIONS), LISTS)
    assert remaining(second.send("GET", FUNCTIONS)) == LISTS - 1


def test_who_is_not_known_does_not_count(limited: Server, connect: Callable[..., Api]) -> None:
    stranger = connect(limited, "no such token")
    for _ in range(3):
        answer = stranger.send("GET", FUNCTIONS)
        refused(answer, 401, UNAUTHENTICATED)
        assert not any(name in answer.headers for name in HEADERS)


def test_invocations_until_the_limit(fresh: Api) -> None:
    function, other = fresh.function("export default () => 1"), fresh.function("export default () => 2")
    answers = [function.invoke() for _ in range(INVOKES)]
    assert [answer.status_code for answer in answers] == [200] * INVOKES
    assert not any(name in answer.headers for answer in answers for name in HEADERS)
    answer = function.invoke()
    over(answer, INVOKES)
    assert "x-execution-id" not in answer.headers
    assert over(function.invoke(method="GET"), INVOKES)
    assert other() == 2, "another function has a limit of its own"
    assert len(function.history("?limit=1000")) == INVOKES, "what was refused was not run"


def test_invocations_count_once_the_function_is_found(fresh: Api) -> None:
    for _ in range(INVOKES + 1):
        refused(fresh.send("POST", f"{FUNCTIONS}/nothing/invoke"), 404, "Function not found or disabled")
    failing = fresh.function("export default () => { throw 1 }")
    assert Counter(failing.invoke().status_code for _ in range(INVOKES + 1)) == {500: INVOKES, 429: 1}


def test_anonymous_callers_count_by_address(limited: Server, connect: Callable[..., Api]) -> None:
    function = connect(limited).function("export default () => 1")
    anonymous = function.by(connect(limited, None))
    assert [anonymous.invoke().status_code for _ in range(INVOKES)] == [200] * INVOKES
    over(anonymous.invoke(), INVOKES)
    assert function() == 1, "a token counts for itself"


def test_exact_under_64_connections(fresh: Api, limited: Server, connect: Callable[..., Api]) -> None:
    function = fresh.function("export default () => 1")
    token = fresh.http.headers["authorization"].removeprefix("Bearer ")
    clients = [function.by(connect(limited, token)) for _ in range(64)]
    counts = Counter(together(lambda client: client.invoke().status_code, clients * 2))
    assert counts == {200: INVOKES, 429: 128 - INVOKES}
    assert len(function.history("?limit=1000")) == INVOKES
    counts = Counter(together(lambda client: client.api.send("GET", FUNCTIONS).status_code, clients))
    assert counts == {200: LISTS, 429: 64 - LISTS}


def test_no_limits_at_all(api: Api) -> None:
    """The shared server is started without them."""
    answers = [api.send("GET", FUNCTIONS) for _ in range(LISTS + 1)]
    assert {answer.status_code for answer in answers} == {200}
    assert not any(name in answer.headers for answer in answers for name in HEADERS)


def test_a_rate_of_zero_is_no_limit(make_server: Callable[..., Server], connect: Callable[..., Api]) -> None:
    env = {"SPINNEY_ADMIN_KEY": ADMIN_KEY, "SPINNEY_FLUXBASE_RATE_WRITES": "0", "SPINNEY_FLUXBASE_RATE_LISTS": "1"}
    api = connect(make_server(env=env))
    assert all(not any(name in api.send("DELETE", f"{FUNCTIONS}/x").headers for name in HEADERS) for _ in range(70))
    api.send("GET", FUNCTIONS)
    over(api.send("GET", FUNCTIONS), 1)
