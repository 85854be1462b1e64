"""What Fluxbase hands to a guest beside the body, and what it believes of what comes back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.dialects.fluxbase.guest import MalformedReply, reply_head, template

VALUES = st.text(st.characters(min_codepoint=1, max_codepoint=255))
NAMES = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1).filter(lambda name: name not in ("content-length", "authorization"))


def filled(headers: list[tuple[bytes, bytes]], length: int = 5, user_id: str | None = None) -> Any:
    return json.loads(template("POST", "http://h/x?a=1", headers, user_id).fill(length))


def test_a_request() -> None:
    headers = [(b"host", b"h"), (b"content-length", b"1"), (b"x", b"1"), (b"x", b"\xe9")]
    assert filled(headers, 12, "me") == {
        "method": "POST",
        "url": "http://h/x?a=1",
        "headers": [["host", "h"], ["content-length", "12"], ["x", "1"], ["x", "é"]],
        "user_id": "me",
    }


def test_without_a_length_and_anonymous() -> None:
    assert filled([(b"transfer-encoding", b"chunked")]) == {
        "method": "POST",
        "url": "http://h/x?a=1",
        "headers": [["transfer-encoding", "chunked"]],
    }


@given(st.lists(st.tuples(NAMES, VALUES)), st.integers(0, 10**8), st.booleans())
def test_no_header_disturbs_another(fields: list[tuple[str, str]], length: int, first: bool) -> None:
    headers = [(name.encode(), value.encode("latin-1")) for name, value in fields]
    headers.insert(0 if first else len(headers), (b"content-length", b"0"))
    seen = filled(headers, length)["headers"]
    assert seen.pop(0 if first else -1) == ["content-length", str(length)]
    assert seen == [list(field) for field in fields]


@pytest.mark.parametrize("value", ["\\u0000", '"\\u0000"', '","', '\\"', "\\", '"'])
def test_texts_that_look_like_its_own(value: str) -> None:
    headers = [(b"a", value.encode()), (b"content-length", b"0"), (b"b", value.encode())]
    assert filled(headers)["headers"] == [["a", value], ["content-length", "5"], ["b", value]]


def test_no_bearer_credential_passes() -> None:
    headers = [(b"authorization", value) for value in (b"Bearer a", b"Basic b", b"bearer c", b"BEARER", b"Bearerd")]
    assert filled(headers)["headers"] == [["authorization", "Basic b"], ["authorization", "Bearerd"]]


def test_nothing_said_is_json() -> None:
    assert reply_head(b"") == (200, [(b"content-type", b"application/json")])


def test_a_reply() -> None:
    meta = {"status": 201, "headers": [["Content-Type", "text/plain"], ["set-cookie", "a"], ["set-cookie", "é\t"], ["x", ""]]}
    status, headers = reply_head(json.dumps(meta).encode())
    assert status == 201
    assert headers == [(b"Content-Type", b"text/plain"), (b"set-cookie", b"a"), (b"set-cookie", b"\xe9\t"), (b"x", b"")]
    headers.append((b"mine", b"1"))
    assert len(reply_head(json.dumps(meta).encode())[1]) == 4


def test_what_is_not_the_functions_to_say() -> None:
    names = ["Connection", "keep-alive", "Transfer-Encoding", "upgrade", "TE", "trailer", "Proxy-Authenticate", "proxy-x"]
    names += ["Content-Length", "X-Execution-ID"]
    meta = {"status": 200, "headers": [[name, "x"] for name in names] + [["x-proxy", "stays"]]}
    assert reply_head(json.dumps(meta).encode()) == (200, [(b"x-proxy", b"stays")])


@pytest.mark.parametrize(
    "meta",
    [
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 60_000,
        b'{"status": "200"}',
        b'{"status": true}',
        b'{"status": 199}',
        b'{"status": 600}',
        b'{"status": 200.5}',
        b'{"status": 200, "headers": {"a": "b"}}',
        b'{"status": 200, "headers": [["a"]]}',
        b'{"status": 200, "headers": [["a", 1]]}',
        b'{"status": 200, "headers": [["a", "b", "c"]]}',
        *(json.dumps({"status": 200, "headers": [["x", value]]}).encode() for value in ("a\r\nb", "a\nb", "a\rb", "\0", "✓")),
        *(json.dumps({"status": 200, "headers": [[name, "x"]]}).encode() for name in ("", "a b", "a:", "a\r\nb", "é", "a\0")),
    ],
)
def test_what_no_guest_says(meta: bytes) -> None:
    with pytest.raises(MalformedReply):
        reply_head(meta)
    with pytest.raises(MalformedReply):
        reply_head(meta + b" " * 600)
