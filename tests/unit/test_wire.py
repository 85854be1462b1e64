"""Strict JSON: the fast check agrees with the plain rules on everything."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.http.wire import EXPLAINED_MAX_BYTES, BodyTooLarge, ClientGone, NotJSON, check_json, parse_object, read_body

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_what_python_writes_is_accepted(value: object, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    check_json(text.encode("utf-8", "replace"))


@given(st.binary())
def test_what_is_accepted_is_json(raw: bytes) -> None:
    try:
        check_json(raw)
    except NotJSON:
        return
    json.loads(raw.decode())


@pytest.mark.parametrize(
    "raw", [b"1e400", b"123456789012345678901234567890", b'"\\ud83d"', b'{"a":"\\udfff","a":1}', b' {"__proto__": {}} ', b"null"]
)
def test_events_that_only_the_runtime_interprets(raw: bytes) -> None:
    check_json(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"{} x",
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b"",
        b"[1,]",
        b"{'a':1}",
        b"\xef\xbb\xbf{}",
        b"01",
    ],
)
def test_what_is_not_strict_json(raw: bytes) -> None:
    with pytest.raises(NotJSON):
        check_json(raw)


@pytest.mark.parametrize("opening,closing", [(b"[", b"]"), (b'{"a":', b"}")])
def test_depth_ends_at_512(opening: bytes, closing: bytes) -> None:
    check_json(opening * 512 + b"1" + closing * 512)
    for depth in (513, 700, 5000, 200_000):
        with pytest.raises(NotJSON, match="512"):
            check_json(opening * depth + b"1" + closing * depth)


def test_brackets_in_strings_and_siblings_are_not_depth() -> None:
    check_json(json.dumps(["[" * 600 + '\\"{', *([[]] * 2000)]).encode())
    check_json(b'["\\ud800",' + b"[]," * 2000 + b"1]")


@pytest.mark.parametrize(
    "raw,reason",
    [
        (b"", "empty body"),
        (b" \n", "empty body"),
        (b"[]", "expected a JSON object"),
        (b'{"a":"\\ud83d"}', "lone surrogate"),
        (b'{"\\udc00":1}', "lone surrogate"),
        (b'{"a":1', "malformed|position|truncated|Expecting"),
    ],
)
def test_objects_of_management(raw: bytes, reason: str) -> None:
    with pytest.raises(NotJSON, match=reason):
        parse_object(raw)


def test_a_surrogate_pair_is_a_character() -> None:
    assert parse_object(b'{"a":"\\ud83d\\ude00"}') == {"a": "\U0001f600"}


def receiver(*parts: bytes, gone: bool = False):  # type: ignore[no-untyped-def]
    messages = [{"type": "http.request", "body": part, "more_body": gone or i < len(parts) - 1} for i, part in enumerate(parts)]
    if gone:
        messages.append({"type": "http.disconnect"})

    async def receive():  # type: ignore[no-untyped-def]
        return messages.pop(0)

    return receive


@pytest.mark.anyio
async def test_a_body_in_parts_is_joined() -> None:
    assert await read_body(receiver(b"ab", b"", b"cd"), 4) == b"abcd"


@pytest.mark.anyio
@pytest.mark.parametrize("parts,drained", [((b"abc",), True), ((b"a", b"bc"), True), ((b"ab", b"c", b"d" * 10), False)])
async def test_a_body_beyond_its_limit(parts: tuple[bytes, ...], drained: bool) -> None:
    with pytest.raises(BodyTooLarge) as caught:
        await read_body(receiver(*parts), 2, 5)
    assert caught.value.drained is drained


@pytest.mark.anyio
async def test_a_client_that_goes_away() -> None:
    with pytest.raises(ClientGone):
        await read_body(receiver(b"a", gone=True), 10)


@pytest.mark.parametrize("text", [rb'"\ud800"', rb'["\\", "\uDFFF", "\\\ud800", {"\ud83d\ude00": "\\u"}]', rb'"\\\\\udABc\""'])
def test_surrogate_escapes_are_allowed(text: bytes) -> None:
    check_json(text)


@pytest.mark.parametrize("text", [rb'"\ud80"', rb'"\ud800" x', rb"\\", rb'["\ud800", \ud800]', rb'"\\\"', rb'"\x\ud800"'])
@pytest.mark.parametrize("padding", [0, EXPLAINED_MAX_BYTES])
def test_surrogate_escapes_hide_no_faults(text: bytes, padding: int) -> None:
    with pytest.raises(NotJSON):
        check_json(text + b" " * padding)
