"""Hostile and unlucky functions: each harms at most its own answer (contract 7, above all 5, 8, 12, 18)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.api import together
from tests.dialects.impuls import attacks
from tests.dialects.impuls.api import FUNCTIONS, Api, Function
from tests.server import wait_until


@pytest.fixture(scope="module", autouse=True)
def long_call(api: Api) -> Iterator[Future[dict[str, Any]]]:
    """A call that takes 31 seconds, made beside all the other tests of this module."""
    function = api.node("await new Promise((go) => setTimeout(go, 31000)); return 'in the end'", timeout_sec=60)
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(function.invoke)


def attack(function: Function) -> None:
    """One attack, answered with its own value or an error, then three calls that must be right."""
    answer = function.invoke("attack")
    assert answer.get("body", "mine") == "mine"
    assert [function("after") for _ in range(3)] == ["after"] * 3


@pytest.mark.parametrize("code", attacks.NODE.values(), ids=attacks.NODE.keys())
def test_a_node_function_harms_only_itself(api: Api, code: str) -> None:
    attack(api.function(code, timeout_sec=3))


@pytest.mark.parametrize("code", attacks.PYTHON.values(), ids=attacks.PYTHON.keys())
def test_a_python_function_harms_only_itself(api: Api, code: str) -> None:
    attack(api.python(code, timeout_sec=3))


def test_attackers_do_not_disturb_a_neighbour(api: Api) -> None:
    neighbour = api.node("return event")
    bombs = [
        api.python("import os\ndef handler(event, context):\n    while True: os.fork()", timeout_sec=3),
        api.node("const all = []; for (;;) all.push(Buffer.alloc(1e7, 1))"),
        api.node("while (true);", timeout_sec=3),
        api.node("for (;;) process.stdout.write('y'.repeat(65536))", timeout_sec=3),
        api.node("for (let n = 0; ; n++) require('fs').writeFileSync('/tmp/' + n, 'x'.repeat(1e6))", timeout_sec=3),
    ]
    done: list[str] = []

    def bomb(function: Function) -> None:
        done.append(function.error())

    def call(_: Function) -> None:
        wait_until(lambda: neighbour("still") == "still" and len(done) == len(bombs), "all attacks are over")

    together(lambda function: call(function) if function is neighbour else bomb(function), [neighbour, *bombs])
    assert len(done) == len(bombs)
    assert api.send("GET", FUNCTIONS).status_code == 200


def test_a_prototype_from_an_event_pollutes_nothing(api: Api) -> None:
    function = api.node(
        "const seen = ({}).polluted ?? null; Object.assign({}, event);"
        "return [seen, Object.keys(event), Object.getPrototypeOf(event) === Object.prototype]"
    )
    for _ in range(2):
        assert function.invoke_text('{"__proto__": {"polluted": 1}}')["body"] == [None, ["__proto__"], True]


def test_events_are_never_source_text(api: Api) -> None:
    function = api.node("return event")
    for text in (
        "${process.exit(1)}",
        "`",
        "'); process.exit(1); ('",
        "\\",
        "\u2028",
        "*/",
        "</script>",
        "#{1}",
        "{{1}}",
        "%s",
        "\\u0027",
    ):
        assert function({text: text}) == {text: text}


def test_code_is_never_part_of_a_template(api: Api) -> None:
    for text in ("`${1}`", "'\\''", '"\u2028"', "/*`*/'a'", "String.raw`\\u`", "1 //`"):
        assert api.function(f"exports.handler = () => [{text}\n].length\n// trailing comment")() == 1


def test_a_function_may_take_longer_than_half_a_minute(long_call: Future[dict[str, Any]]) -> None:
    """No time limit of the HTTP side cuts off a function that is within its own."""
    assert long_call.result()["body"] == "in the end"
