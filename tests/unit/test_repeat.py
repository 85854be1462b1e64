"""Repeated requests: only exactly what the parser accepted before takes the short way."""

from __future__ import annotations

import pytest

from spinney.http.hot import HotRequest, HotResponse
from spinney.http.repeat import Repeat, learn

HEAD = b"POST /f/x/invoke HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nAccept: */*\r\n\r\n"
HEADERS = [(b"host", b"a"), (b"content-length", b"5"), (b"accept", b"*/*")]


async def handler(request: HotRequest) -> HotResponse:
    return HotResponse(200, [], b"")


def remember(data: bytes = HEAD + b"12345", headers: list[tuple[bytes, bytes]] = HEADERS) -> Repeat | None:
    return learn(data, "/f/x/invoke", headers, handler, ["x"], b"")


def test_the_same_head_with_another_body() -> None:
    repeat = remember()
    assert repeat is not None
    assert repeat.body(HEAD + b"67890") == b"67890"
    assert repeat.body(HEAD.replace(b": 5", b": 12") + b"x" * 12) == b"x" * 12
    assert repeat.body(HEAD.replace(b": 5", b": 0")) == b""


def test_a_length_as_the_last_header() -> None:
    head = b"POST /f/x/invoke HTTP/1.1\r\nHost: a\r\ncontent-length: 2\r\n\r\n"
    repeat = remember(head + b"{}", [(b"host", b"a"), (b"content-length", b"2")])
    assert repeat is not None
    assert repeat.body(head + b"[]") == b"[]"


@pytest.mark.parametrize(
    "data",
    [
        HEAD + b"1234",
        HEAD + b"123456",
        HEAD + b"12345" + HEAD,
        HEAD.replace(b"Host: a", b"Host: b") + b"12345",
        HEAD.replace(b"Accept", b"accept") + b"12345",
        HEAD.replace(b": 5", b": +5") + b"12345",
        HEAD.replace(b": 5", b": 5 ") + b"12345",
        HEAD.replace(b": 5", b": ") + b"12345",
        HEAD.replace(b": 5", b": 000000005") + b"12345",
        HEAD.replace(b": 5", b": \xb2") + b"12345",
        HEAD.replace(b"5\r\n", b"5\r\nTransfer-Encoding: chunked\r\n") + b"12345",
        HEAD[:-1],
        b"",
    ],
)
def test_anything_else_goes_to_the_parser(data: bytes) -> None:
    repeat = remember()
    assert repeat is not None
    assert repeat.body(data) is None


@pytest.mark.parametrize("name", [b"transfer-encoding", b"expect", b"upgrade", b"connection"])
def test_unusual_requests_are_not_remembered(name: bytes) -> None:
    assert remember(headers=[*HEADERS, (name, b"x")]) is None


def test_requests_without_one_length_are_not_remembered() -> None:
    assert remember(headers=[(b"host", b"a")]) is None
    assert remember(headers=[*HEADERS, (b"content-length", b"5")]) is None
    assert remember(data=HEAD + b"123") is None
    assert remember(data=HEAD + b"12345" + HEAD) is None
