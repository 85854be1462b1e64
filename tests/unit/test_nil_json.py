"""NIL's reading of JSON: the quick way says the same as the careful one, and both keep what was sent (contract 1.3, 3.1)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.dialects.nil.jsontext import NotObject, Number, check_output, compact, parse, quick_input, read_input
from spinney.http.wire import NotJSON

TEXT = st.text()
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=20
)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=5)
TOKENS = [
    '{"input":',
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    " ",
    '"',
    "\\",
    "u00e9",
    "ud83d",
    "1",
    "-0",
    "1.50",
    "e9",
    "null",
    "tru",
    "é",
    '"a"',
]


@given(OBJECTS, st.booleans(), st.sampled_from([None, 1, " \t\n"]), st.booleans())
def test_what_python_writes_is_read_compact(value: dict[str, object], ascii_only: bool, indent: object, alone: bool) -> None:
    body = json.dumps(
        {"input": value} if alone else {"x": 1, "input": value},
        ensure_ascii=ascii_only,
        indent=indent,  # type: ignore[arg-type]
    ).encode("utf-8", "replace")
    text = read_input(body)
    assert json.loads(text) == json.loads(body)["input"]
    assert quick_input(body) in (None, text)


@given(st.lists(st.sampled_from(TOKENS)).map("".join) | st.text())
def test_the_quick_way_agrees_with_the_careful_one(text: str) -> None:
    body = text.encode()
    quick = quick_input(body)
    if quick is not None:
        assert quick == read_input(body)


@given(st.binary())
def test_any_bytes_are_json_or_not(body: bytes) -> None:
    quick = quick_input(body)
    try:
        value = parse(body)
    except NotJSON:
        assert quick is None
        return
    json.loads(compact(value))


SAME = [
    '{"a":5,"t":"é"}',
    '{"b":1,"a":2}',
    '{"n":[1.50,15.0,1e5,1E+2,-0,-0.0,0.1000,123456789012345678901234567890,1e-400]}',
    '{"big":' + "7" * 6000 + "}",
    '{"s":"\\"\\\\\\n\\t\\u0000\\u001f/\x7f\u2028\uffff👍"}',
    '{"":{"":[]}}',
    "{}",
    '[1,"x"]',
    '"text"',
    "42",
    "true",
]


@pytest.mark.parametrize("text", SAME)
def test_what_is_kept_as_it_is(text: str) -> None:
    assert read_input(b'{"input":%b}' % text.encode()) == text.encode()


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (' { "a" : [ 1 , { } ] , "t" : " x  y " } ', '{"a":[1,{}],"t":" x  y "}'),
        (r'{"t":"\u00e9\u0041\/\uD83D\uDC4D\u007f"}', '{"t":"éA/👍\x7f"}'),
        (r'{"t":"\ud800","\udfff":["\ud83dx","\ud83d\ud83d\udc4d"]}', '{"t":"\ufffd","\ufffd":["\ufffdx","\ufffd👍"]}'),
        ('{"a":1,"b":2,"a":3}', '{"a":3,"b":2}'),
        (r'{"\ud800":1,"\ud801":2}', '{"\ufffd":2}'),
        ("null", "{}"),
    ],
)
def test_what_is_read_otherwise(sent: str, read: str) -> None:
    assert read_input(b'{"input":%b}' % sent.encode()) == read.encode()


@pytest.mark.parametrize(
    "body", [b"", b" \r\n", b"null", b"{}", b'{"x":1}', b'{"input":null}', b'{"input":{"a":1},"input":null}']
)
def test_no_input_is_an_empty_object(body: bytes) -> None:
    assert read_input(body) == b"{}"
    assert quick_input(body) in (None, b"{}")


@pytest.mark.parametrize("body", [b"[]", b'"input"', b"1", b"false"])
def test_bodies_that_are_no_objects(body: bytes) -> None:
    with pytest.raises(NotObject):
        read_input(body)


def nested(levels: int) -> bytes:
    return b'{"input":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"{'input':1}",
        b'{"input":NaN}',
        b'{"input":-Infinity}',
        b'{"input":1e400}',
        b'{"input":-1e999}',
        b'{"input":' + b"9" * 400 + b".5}",
        b'{"input":01}',
        b'{"input":1,}',
        b"{} {}",
        b"{}x",
        b'{"input":"\xff"}',
        b'{"input":"\xed\xa0\x80"}',
        b'{"input":"\x01"}',
        b"\xef\xbb\xbf{}",
        b"\x0c{}",
        nested(501),
        nested(100_000),
    ],
)
def test_what_is_malformed(body: bytes) -> None:
    assert quick_input(body) is None
    with pytest.raises(NotJSON):
        read_input(body)


def test_nesting_to_the_limit() -> None:
    assert read_input(nested(500)) == b"[" * 499 + b"]" * 499
    strings = b'{"input":{"t":"' + b"[" * 10_000 + b'"}}'
    assert read_input(strings) == strings[9:-1]


def test_numbers_are_their_digits() -> None:
    value = parse(b'{"a":1.50,"b":"1.50"}')
    assert (type(value["a"]), type(value["b"])) == (Number, str)
    assert compact(value) == '{"a":1.50,"b":"1.50"}'


def test_what_guests_may_not_say() -> None:
    for raw in (b"", b"hello", b"NaN", b"[1,]", b"1 2", b'"\xff"', b"[" * 501 + b"]" * 501):
        with pytest.raises(NotJSON):
            check_output(raw)
    for raw in (b"15.0", b"null", b'"\xc3\xa9"', b"[" * 500 + b"]" * 500):
        check_output(raw)
