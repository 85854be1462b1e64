"""Listing and reading functions (contract 2.3, 2.4)."""

from __future__ import annotations

from tests.api import together
from tests.dialects.impuls.api import FULL_KEYS, FUNCTIONS, Api


def test_an_empty_list(own_account: Api) -> None:
    response = own_account.send("GET", FUNCTIONS)
    assert response.status_code == 200
    assert response.json() == {"functions": [], "count": 0}


def test_newest_first_without_code_and_environment(own_account: Api) -> None:
    made = [own_account.function(name=name, environment={"SECRET": "s"}, description=name) for name in ("b", "c", "a")]
    answer = own_account.send("GET", FUNCTIONS).json()
    assert answer["count"] == 3
    expected = [{key: made_.created[key] for key in FULL_KEYS - {"code", "environment"}} for made_ in reversed(made)]
    assert answer["functions"] == expected


def test_the_order_is_that_of_creation_within_a_millisecond_and_after_updates(own_account: Api) -> None:
    made = [own_account.function() for _ in range(30)]
    made[3].update(description="changed")
    assert own_account.names() == [function.name for function in reversed(made)]


def test_the_count_follows(own_account: Api) -> None:
    made = [own_account.function() for _ in range(3)]
    made[1].delete()
    answer = own_account.send("GET", f"{FUNCTIONS}?unknown=1").json()
    assert answer["count"] == len(answer["functions"]) == 2
    assert own_account.names() == [made[2].name, made[0].name]


def test_reading_one(api: Api) -> None:
    made = api.function(environment={"KEY": "value"}, description="größe")
    assert made.get() == made.created
    assert api.send("GET", made.path + "?local=true").json() == made.created


def test_a_crowd_of_readers(api: Api) -> None:
    made = api.function()
    assert all(found == made.created for found in together(lambda _: made.get(), range(32)))
