"""Hosts and ports: split, joined, and told from what only looks like them."""

from __future__ import annotations

import pytest

from spinney.http.address import is_authority, join_port, split_port


@pytest.mark.parametrize(
    ("authority", "parts"),
    [
        ("a", ("a", "")),
        ("a:1", ("a", "1")),
        ("[::1]", ("::1", "")),
        ("[::1]:80", ("::1", "80")),
        ("", ("", "")),
    ],
)
def test_split(authority: str, parts: tuple[str, str]) -> None:
    assert split_port(authority) == parts


def test_join() -> None:
    assert (join_port("a", 1), join_port("::1", 80)) == ("a:1", "[::1]:80")


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "a.b-c_d",
        "a.",
        "A:0",
        "localhost:65535",
        "127.0.0.1:8080",
        "[::1]",
        "[fd00::1]:9",
        "xn--bcher-kva.example",
        "a:",
    ],
)
def test_what_a_url_can_have(text: str) -> None:
    assert is_authority(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        ":80",
        "a:65536",
        "a:x",
        "a:-1",
        "a:٣",
        "a b",
        "a/b",
        "a?b",
        "a#b",
        "a@b",
        "a\\b",
        "a%",
        "<a>",
        "..",
        "a..b",
        ".a",
        "::1",
        "[::1",
        "::1]",
        "[a]",
        "[]",
        "[::1]x",
        "[::1]:x",
        "1.2.3.256",
        "a.9",
        "1.2.3",
        "é",
        "a\tb",
        "[::1%25eth0]:1:1",
    ],
)
def test_what_it_cannot(text: str) -> None:
    assert not is_authority(text)
