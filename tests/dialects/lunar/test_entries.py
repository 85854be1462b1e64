"""Variables and entries, replaced by clients and kept by functions (contract 2.6, 3.5)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.api import together
from tests.dialects.lunar.api import NOBODY, Api, Function, done, is_version, refused
from tests.server import wait_until

NO_FUNCTION = "Function not found"


def put_env(function: Function, variables: object) -> Any:
    return function.api.request("PUT", f"{function.path}/env", {"env_vars": variables})


def put_kv(function: Function, **body: object) -> Any:
    return function.api.request("POST", f"{function.path}/kv", body)


def test_variables_are_replaced_as_a_whole(api: Api) -> None:
    function = api.handler("return { body = json.encode({ a = env.get('A'), b = env.get('B') }) }")
    assert is_version(done(put_env(function, {"A": "1", "B": "two words"})))["is_active"]
    assert function.get()["env_vars"] == {"A": "1", "B": "two words"}
    assert function() == {"a": "1", "b": "two words"}
    done(put_env(function, {"B": "3"}))
    assert function() == {"b": "3"}
    done(put_env(function, {}))
    assert function.get()["env_vars"] == {}
    assert function.get()["active_version"]["version"] == 1


def test_entries_in_either_form(own_account: Api) -> None:
    function, other = own_account.function(), own_account.function()
    assert is_version(done(put_kv(function, kv={"a": "1"})))["version"] == 1
    assert function.get()["scoped_data"] == {"a": "1"}
    listed = [{"key": "b", "value": "1"}, {"key": "b", "value": "2"}]
    done(put_kv(function, kvEntries=listed))
    assert function.get()["scoped_data"] == {"b": "2"}
    done(put_kv(function, kvEntries=listed, kv={"c": "3"}, **{"global": False}))
    assert function.get()["scoped_data"] == {"c": "3"}
    done(put_kv(function, kv={"shared": "s"}, **{"global": True}))
    assert (other.get()["scoped_data"], other.get()["global_data"]) == ({}, {"shared": "s"})
    done(function.delete(), 204)
    assert other.get()["global_data"] == {"shared": "s"}


BAD_KEYS = {"": "cannot be empty", "k" * 101: "cannot be longer than 100 characters"}
BAD_KEYS |= dict.fromkeys(("a-b", "ä", "a b", "a\n"), "can only contain letters, numbers, and underscores")
BAD_VALUES = {" \u3000": "cannot be empty", "v" * 10001: "cannot be longer than 10000 characters"}


@pytest.mark.parametrize(
    ("entries", "fault", "env_fault"),
    [
        *(({key: "v"}, f"key: key {text}", f"env_var_key: environment variable key {text}") for key, text in BAD_KEYS.items()),
        *(
            ({"k": v}, f"value: value {text}", f"env_var_value: environment variable value {text}")
            for v, text in BAD_VALUES.items()
        ),
        ({"b": "", "a-": "v"}, f"key: key {BAD_KEYS['a-b']}", f"env_var_key: environment variable key {BAD_KEYS['a-b']}"),
        ({"b-": "", "a": ""}, "value: value cannot be empty", "env_var_value: environment variable value cannot be empty"),
    ],
)
def test_what_is_refused(api: Api, entries: dict[str, str], fault: str, env_fault: str) -> None:
    function = api.function()
    refused(put_kv(function, kv=entries), 400, fault)
    refused(put_kv(function, kvEntries=[{"key": key, "value": value} for key, value in entries.items()]), 400, fault)
    refused(put_env(function, entries), 400, env_fault)
    assert (function.get()["scoped_data"], function.get()["env_vars"]) == ({}, {})
    refused(api.request("POST", f"/api/functions/{NOBODY}/kv", {"kv": entries}), 400, fault)
    refused(api.request("POST", f"/api/functions/{NOBODY}/kv", {"kv": {}, "global": True}), 404, NO_FUNCTION)
    refused(api.request("PUT", f"/api/functions/{NOBODY}/env", {"env_vars": {}}), 404, NO_FUNCTION)


def test_bodies_without_entries(api: Api) -> None:
    function = api.function()
    refused(put_kv(function), 400, "kv: kv cannot be nil")
    refused(put_kv(function, kv=None), 400, "kv: kv cannot be nil")
    refused(put_env(function, None), 400, "env_vars: env_vars cannot be nil")
    many = {f"K{n}": "v" for n in range(101)}
    refused(put_env(function, many), 400, "env_vars: cannot have more than 100 environment variables")
    for value in (7, None, ["x"]):
        refused(put_kv(function, kv={"a": value}), 400, "Invalid request body")
        refused(put_env(function, {"a": value}), 400, "Invalid request body")
    for entries in ([7], [{"key": 7, "value": "v"}], [{"key": "k", "value": 0}], {"key": "k"}):
        refused(put_kv(function, kvEntries=entries), 400, "Invalid request body")


def test_the_largest(api: Api) -> None:
    function = api.function()
    variables = {f"{n:0100}": "é" * 5000 for n in range(100)}
    done(put_env(function, variables))
    assert function.get()["env_vars"] == variables


def test_what_functions_keep_can_be_written_back(api: Api) -> None:
    function = api.handler(r"""
        kv.set("user:1", "x") kv.set("empty", "") kv.set("bytes\255", "\254\0\1") env.set("a-b", "")
        return { body = json.encode({ raw = base64.encode(kv.get("bytes\255") or "") }) }""")
    function()
    found = function.get()
    assert found["scoped_data"] == {"user:1": "x", "empty": "", "bytes\ufffd": "\ufffd\u0000\u0001"}
    assert found["env_vars"] == {"a-b": ""}
    done(put_kv(function, kv={**found["scoped_data"], "more": "1"}))
    done(put_env(function, found["env_vars"]))
    reader = "return { body = json.encode({ base64.encode(kv.get('bytes\\255')), kv.get('user:1'), kv.get('more') }) }"
    function.update(code=f"function handler(ctx, event) {reader} end")
    assert function() == ["/gAB", "x", "1"]
    refused(put_kv(function, kv={"user:1": "y"}), 400, "key: key can only contain letters, numbers, and underscores")


def test_a_counter_loses_nothing(api: Api) -> None:
    function = api.handler("return { body = json.encode(kv.incr('n')) }")
    seen = together(lambda _: [function() for _ in range(10)], range(16))
    assert sorted(n for some in seen for n in some) == list(range(1, 161))
    assert function.get()["scoped_data"] == {"n": "160"}


def test_nothing_that_a_run_writes_outlives_its_function(api: Api) -> None:
    watcher = api.handler("return { body = json.encode({ at = kv.getGlobal('begun') }) }")
    function = api.handler(
        "kv.setGlobal('begun', '1') time.sleep(1500) kv.set('a', '1') env.set('a', '1') return { body = 'done' }"
    )
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(function.run)
        wait_until(lambda: watcher().get("at"), "the run")
        done(function.delete(), 204)
        response = running.result()
    assert (response.status_code, response.text) == (200, "done")
    refused(function.run(), 404, NO_FUNCTION)
    refused(api.send("GET", f"/api/executions/{response.headers['x-execution-id']}"), 404, "Execution not found")
