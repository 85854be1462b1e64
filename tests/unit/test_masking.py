"""Which members of JSON are kept from readers of records."""

from __future__ import annotations

import json
import random
import string

import pytest

from spinney.core.masking import REDACTED, mask_json

SECRET = (
    *("password", "secret", "api_key", "apikey", "access_token", "private_key", "client_secret", "token", "auth", "bearer"),
    *(
        "authorization",
        "credential",
        "credentials",
        "Password",
        "API_KEY",
        "Token",
        "token_id",
        "auth-mode",
        "secret_",
        "SECRET-x",
    ),
)
OPEN = (
    "completion_tokens",
    "max_tokens",
    "tokens",
    "author",
    "passwords",
    "my_password",
    "x-token",
    "keys",
    "",
    "apikeys",
    "credentialsx",
)


@pytest.mark.parametrize("name", SECRET)
def test_secret_members(name: str) -> None:
    for value in ("x", 1, None, [1], {"a": {"b": 1}}):
        assert json.loads(mask_json(json.dumps({"a": [{name: value, "b": 1}]}))) == {"a": [{name: REDACTED, "b": 1}]}


@pytest.mark.parametrize("name", OPEN)
def test_other_members(name: str) -> None:
    assert json.loads(mask_json(json.dumps({name: "x"}))) == {name: "x"}


def test_keys_are_sorted_and_the_rest_is_kept() -> None:
    text = ' {"b": [1, 1.5, -0.0, 1e3, true, null, "ü\\u0000\\n"], "a": {"d": 12345678901234567890, "c": ""}} '
    assert mask_json(text) == '{"a":{"c":"","d":12345678901234567890},"b":[1,1.5,-0.0,1000.0,true,null,"ü\\u0000\\n"]}'


@pytest.mark.parametrize(
    "text", ["", "password=1", '{"password": 1', '{"password": 1} x', "NaN", '{"token": Infinity}', '{"a": 1e999}']
)
def test_what_is_no_json_stays(text: str) -> None:
    assert mask_json(text) == text


def test_deep_and_broken_text() -> None:
    assert mask_json('{"a":' * 100_000 + "1" + "}" * 100_000) == REDACTED
    assert mask_json("[" * 3000 + '{"password":1}' + "]" * 3000) == REDACTED
    assert mask_json('["\\ud83d"]') == '["\ufffd"]'
    assert mask_json('{"\\udc00": 1}') == '{"\ufffd":1}'


def test_a_masked_text_stays_what_it_is() -> None:
    chance = random.Random(7)

    def value(depth: int) -> object:
        kind = chance.randrange(6 if depth else 4)
        if kind == 4:
            return [value(depth - 1) for _ in range(chance.randrange(4))]
        if kind == 5:
            return {chance.choice((*SECRET, *OPEN, *string.ascii_letters)): value(depth - 1) for _ in range(chance.randrange(5))}
        return (chance.random(), chance.randrange(-(1 << 70), 1 << 70), "".join(chance.choices(string.printable, k=5)), None)[
            kind
        ]

    for _ in range(300):
        masked = mask_json(json.dumps(value(4)))
        assert mask_json(masked) == masked
