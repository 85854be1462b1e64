"""Lists, single functions, and their end (contract 2.2, 2.3, 2.5)."""

from __future__ import annotations

import pytest

from tests.api import together, unique
from tests.dialects.fluxbase.api import FUNCTIONS, TRIVIAL, Api, refused

UNKNOWN = "Function not found"


def test_no_functions_are_an_empty_array(own_account: Api) -> None:
    assert own_account.send("GET", FUNCTIONS).text == "[]"


def test_a_list_is_newest_first_and_has_no_code(own_account: Api) -> None:
    made = [own_account.function(description="x" if number % 2 else None) for number in range(5)]
    made[0].update(description="an update does not move it")
    expected = [{key: value for key, value in one.get().items() if key != "code"} for one in reversed(made)]
    assert own_account.items() == expected
    assert own_account.send("GET", f"{FUNCTIONS}?limit=1&offset=3&x=%ff").json() == expected


@pytest.mark.parametrize(
    "segment",
    ["nobody", "caf%C3%A9", "a%2Fb", "..%2F..%2Fetc%2Fpasswd", "nul%00", "%ff", "x" * 300, "a'b%22c", "100%25", "__proto__"],
)
def test_unknown_names(api: Api, segment: str) -> None:
    path = f"{FUNCTIONS}/{segment}"
    refused(api.send("GET", path), 404, UNKNOWN)
    refused(api.send("PUT", path, "{}"), 404, UNKNOWN)
    refused(api.send("DELETE", path), 404, UNKNOWN)
    refused(api.send("GET", f"{path}/executions"), 404, UNKNOWN)
    refused(api.send("POST", f"{path}/invoke"), 404, "Function not found or disabled")


def test_names_are_decoded_and_case_sensitive(api: Api) -> None:
    function = api.function(name=unique("Mixed-"))
    assert api.send("GET", f"{FUNCTIONS}/%4D{function.name[1:]}").json() == function.created
    refused(api.send("GET", f"{FUNCTIONS}/{function.name.lower()}"), 404, UNKNOWN)


def test_delete(api: Api) -> None:
    function = api.function(cron_schedule="@yearly")
    gone = function.delete()
    assert (gone.status_code, gone.content) == (204, b"")
    assert "content-type" not in gone.headers
    refused(function.delete(), 404, UNKNOWN)
    refused(function.put({}), 404, UNKNOWN)
    refused(api.send("GET", function.path), 404, UNKNOWN)
    refused(api.send("GET", f"{function.path}/executions"), 404, UNKNOWN)
    refused(function.invoke("{}"), 404, "Function not found or disabled")
    assert function.name not in api.names()
    again = api.function(name=function.name)
    assert (again.created["version"], again.history()) == (1, [])
    assert again.created["id"] != function.created["id"]


def test_of_many_deletes_one_wins(api: Api) -> None:
    function = api.function()
    assert sorted(one.status_code for one in together(lambda _: function.delete(), range(8))) == [204] + [404] * 7


def test_names_belong_to_accounts(api: Api, own_account: Api) -> None:
    mine, theirs = api.function(), own_account.function("2")
    for method, path in (("GET", ""), ("PUT", ""), ("DELETE", ""), ("GET", "/executions")):
        refused(own_account.send(method, mine.path + path, "{}" if method == "PUT" else None), 404, UNKNOWN)
    assert own_account.names() == [theirs.name]
    same = own_account.function("3", name=mine.name)
    assert (mine.get()["code"], same.get()["code"]) == (TRIVIAL, "3")
    same.delete()
    assert mine.get() == mine.created
