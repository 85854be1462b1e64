"""Request bodies: types, encodings, sizes, chunks, strict JSON (contract 1)."""

from __future__ import annotations

import json
import socket

import pytest

from tests.api import unique
from tests.dialects.impuls.api import FUNCTIONS, TRIVIAL, Api, Function, envelope_of, refused
from tests.server import Server
from tests.wire import Wire

LIMIT = 6 * 1024 * 1024
DRAINED = 32 * 1024 * 1024
TOO_LARGE = "request body too large (max 6291456 bytes)"
MIB = b" " * (1024 * 1024)

MALFORMED = {
    "NaN": b"NaN",
    "Infinity": b"Infinity",
    "negative Infinity": b"[-Infinity]",
    "NaN inside": b'{"a": NaN}',
    "trailing text": b"{} x",
    "two values": b"{}{}",
    "trailing comma": b"[1,]",
    "trailing comma in an object": b'{"a": 1,}',
    "single quotes": b"{'a': 1}",
    "bare key": b"{a: 1}",
    "comment": b"{} // no",
    "cut off": b'{"a": ',
    "cut off in a string": b'"abc',
    "cut off literal": b"tru",
    "capital literal": b"True",
    "leading zero": b"01",
    "plus sign": b"+1",
    "no digit before the point": b".5",
    "no digit after the point": b"1.",
    "empty exponent": b"1e",
    "hexadecimal": b"0x10",
    "tab in a string": b'"a\tb"',
    "line feed in a string": b'"a\nb"',
    "NUL after the value": b"{}\0",
    "bad escape": b'"\\x41"',
    "short escape": b'"\\u12"',
    "invalid UTF-8": b'"\xff"',
    "overlong UTF-8": b'"\xc0\xaf"',
    "surrogate as UTF-8": b'"\xed\xa0\xbd"',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "UTF-16 without a mark": '{"a": 1}'.encode("utf-16-le"),
    "UTF-32": '{"a": 1}'.encode("utf-32"),
    "byte order mark": b"\xef\xbb\xbf{}",
    "form": b"a=1&b=2",
    "no-break space": b"\xc2\xa0{}",
    "513 arrays": b"[" * 513 + b"]" * 513,
    "513 objects": b'{"a":' * 513 + b"1" + b"}" * 513,
    "depth of a megabyte": b"[" * 1_000_000,
    "closed depth of a megabyte": b"[" * 500_000 + b"]" * 500_000,
}


def create_text(**fields: object) -> str:
    body = {"name": unique(), "runtime": "nodejs20", "handler": "index.handler", "code": TRIVIAL, **fields}
    return json.dumps(body)


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_json(api: Api, echo: Function, body: bytes) -> None:
    for method, path in [("POST", FUNCTIONS), ("PUT", echo.path), ("PATCH", echo.path), ("POST", f"{echo.path}/invoke")]:
        message = refused(api.send(method, path, body), 400)
        assert message.startswith("Invalid request body: ") and len(message) > len("Invalid request body: ")


@pytest.mark.parametrize("body", ["[]", "[{}]", '"text"', "5", "null", "true", "false"])
def test_create_and_update_take_objects_only(api: Api, echo: Function, body: str) -> None:
    for method, path in [("POST", FUNCTIONS), ("PUT", echo.path), ("PATCH", echo.path)]:
        refused(api.send(method, path, body), 400, "Invalid request body: expected a JSON object")


@pytest.mark.parametrize("body", [None, "", " ", "\r\n\t "])
def test_create_and_update_need_a_body(api: Api, echo: Function, body: str | None) -> None:
    for method, path in [("POST", FUNCTIONS), ("PUT", echo.path), ("PATCH", echo.path)]:
        refused(api.send(method, path, body), 400, "Invalid request body: empty body")


@pytest.mark.parametrize(
    "text",
    [
        r'{"description": "\ud83d"}',
        r'{"description": "a\udc00b"}',
        r'{"description": "\ude00\ud83d"}',
        r'{"code": "// \ud83d"}',
        r'{"environment": {"A": "\ud83d"}}',
        r'{"environment": {"\ud83d": "A"}}',
        r'{"unknown": ["\uD83D"]}',
        r'{"unknown \uDfFf": 1}',
    ],
)
def test_lone_surrogates_cannot_be_stored(api: Api, echo: Function, text: str) -> None:
    whole = create_text()[:-1] + ", " + text[1:]
    for method, path, body in [("POST", FUNCTIONS, whole), ("PUT", echo.path, text), ("PATCH", echo.path, text)]:
        assert refused(api.send(method, path, body), 400).startswith("Invalid request body: ")


@pytest.mark.parametrize(("escape", "stored"), [(r"\ud83d\ude00", "😀"), (r"\\ud83d", r"\ud83d"), (r"\u00e9", "é")])
def test_other_escapes_can(api: Api, escape: str, stored: str) -> None:
    response = api.send("POST", FUNCTIONS, create_text()[:-1] + f', "description": "{escape}"}}')
    assert response.status_code == 201
    assert response.json()["description"] == stored


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", "nonsense"]
)
def test_the_content_type_does_not_matter(api: Api, echo: Function, content_type: str | None) -> None:
    headers = {"content-type": content_type} if content_type else {}
    assert api.send("POST", FUNCTIONS, create_text(), headers=headers).status_code == 201
    event = '{"word": "größe"}'
    answer = api.send("POST", f"{echo.path}/invoke", event, headers=headers)
    assert envelope_of(answer)["body"] == {"word": "größe"}
    assert api.send("PUT", echo.path, "{}", headers=headers).status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "x-unknown", "gzip, identity"])
def test_encoded_bodies_are_refused(api: Api, echo: Function, encoding: str) -> None:
    headers = {"content-encoding": encoding}
    message = f"unsupported content encoding '{encoding}'"
    huge = b"x" * (LIMIT + 1)
    for method, path in [("POST", FUNCTIONS), ("PUT", echo.path), ("POST", f"{echo.path}/invoke")]:
        for body in (b"{}", b"{not json", huge):
            refused(api.send(method, path, body, headers=headers), 415, message)


@pytest.mark.parametrize("encoding", ["identity", "Identity"])
def test_identity_is_no_encoding(api: Api, echo: Function, encoding: str) -> None:
    response = api.send("POST", f"{echo.path}/invoke", '{"a": 1}', headers={"content-encoding": encoding})
    assert envelope_of(response)["body"] == {"a": 1}


def test_one_byte_too_many(api: Api, echo: Function) -> None:
    body = b" " * (LIMIT + 1)
    for method, path in [("POST", FUNCTIONS), ("PUT", echo.path), ("PATCH", echo.path), ("POST", f"{echo.path}/invoke")]:
        refused(api.send(method, path, body), 413, TOO_LARGE)
        refused(api.send(method, path, (part for part in [body])), 413, TOO_LARGE)  # type: ignore[arg-type]


def test_a_body_of_exactly_the_limit(api: Api) -> None:
    length = api.node("return event.length", memory_mb=256)
    event = b'"' + b"x" * (LIMIT - 2) + b'"'
    assert length.invoke_text(event)["body"] == LIMIT - 2
    padded = create_text().encode()
    assert api.send("POST", FUNCTIONS, padded + b" " * (LIMIT - len(padded))).status_code == 201


@pytest.mark.parametrize("path", [FUNCTIONS, "/invoke"])
@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "chunked"])
def test_a_sender_of_32_mib_gets_to_read_the_413(server: Server, echo: Function, path: str, chunked: bool) -> None:
    target = "/impuls" + (echo.path + path if path == "/invoke" else path)
    with Wire(server.port) as wire:
        if chunked:
            wire.head("POST", target, transfer_encoding="chunked")
            for _ in range(DRAINED // len(MIB)):
                wire.chunk(MIB)
            wire.chunk(b"")
        else:
            wire.head("POST", target, content_length=DRAINED)
            for _ in range(DRAINED // len(MIB)):
                wire.send(MIB)
        answer = wire.answer()
        assert (answer.status, answer.json()) == (413, {"error": True, "message": TOO_LARGE})


def test_a_body_without_end_is_cut_off(server: Server, api: Api) -> None:
    with Wire(server.port) as wire:
        wire.head("POST", "/impuls" + FUNCTIONS, transfer_encoding="chunked")
        with pytest.raises(OSError):
            for _ in range(400):
                wire.chunk(MIB)
    assert api.send("GET", "/health").status_code == 200


def test_chunked_bodies_count(api: Api, echo: Function) -> None:
    text = create_text(description="in pieces").encode()
    response = api.send("POST", FUNCTIONS, (text[at : at + 7] for at in range(0, len(text), 7)))  # type: ignore[arg-type]
    assert response.status_code == 201
    assert response.json()["description"] == "in pieces"
    response = api.send("POST", f"{echo.path}/invoke", (part for part in (b'{"a"', b": [1, ", b"2]}")))  # type: ignore[arg-type]
    assert envelope_of(response)["body"] == {"a": [1, 2]}
    response = api.send("POST", f"{echo.path}/invoke", (part for part in (b"",)))  # type: ignore[arg-type]
    assert envelope_of(response)["body"] == {}


def test_chunk_extensions_and_trailers(server: Server, echo: Function) -> None:
    with Wire(server.port) as wire:
        wire.head("POST", f"/impuls{echo.path}/invoke", transfer_encoding="chunked")
        wire.send('3;note="x"\r\n{"a\r\n', '4\r\n": 1\r\n', "1\r\n}\r\n", "0\r\nX-Trailer: y\r\n\r\n")
        assert wire.answer().json()["body"] == {"a": 1}


def test_a_client_that_waits_for_100_continue(server: Server, echo: Function) -> None:
    with Wire(server.port) as wire:
        wire.head("POST", f"/impuls{echo.path}/invoke", content_length=2, expect="100-continue")
        assert wire.socket.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 100"
        wire.send("[]")
        assert wire.answer().json()["body"] == []


def test_a_slow_sender_holds_up_nobody(server: Server, api: Api, echo: Function) -> None:
    with Wire(server.port) as slow:
        slow.head("POST", f"/impuls{echo.path}/invoke", content_length=13)
        slow.send('{"slow"')
        for number in range(5):
            assert echo({"n": number}) == {"n": number}
            assert api.send("GET", FUNCTIONS).status_code == 200
        slow.send(": [1]")
        assert echo([]) == []
        slow.send("}")
        assert slow.answer().json()["body"] == {"slow": [1]}


def test_a_sender_that_goes_away_in_the_middle(server: Server, api: Api, echo: Function) -> None:
    name = unique("half")
    text = create_text(name=name)
    for method, path in [("POST", FUNCTIONS), ("PUT", echo.path), ("POST", f"{echo.path}/invoke")]:
        with Wire(server.port) as wire:
            wire.head(method, "/impuls" + path, content_length=len(text) + 1)
            wire.send(text)
    assert echo({"still": "here"}) == {"still": "here"}
    assert name not in api.names()


def test_requests_on_one_connection(server: Server, echo: Function) -> None:
    """Also after a refusal, the connection is usable or closed, and never out of step."""
    with Wire(server.port) as wire:
        for number in range(3):
            wire.post(f"/impuls{echo.path}/invoke", json.dumps(number).encode())
        assert [wire.answer().json()["body"] for _ in range(3)] == [0, 1, 2]
        wire.post(f"/impuls{echo.path}/invoke", b"{bad")
        assert wire.answer().status == 400
        wire.post(f"/impuls{echo.path}/invoke", b'"good"')
        assert wire.answer().json()["body"] == "good"


def raw_invoke(function: Function, body: bytes, length: str | None = None) -> bytes:
    """The bytes of an invocation, the same but for its length and its body."""
    lines = [
        f"POST /impuls{function.path}/invoke HTTP/1.1",
        "Host: localhost",
        f"Content-Length: {length or len(body)}",
        "X-A: b",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def test_equal_heads_with_different_bodies(server: Server, echo: Function) -> None:
    bodies = [json.dumps("x" * size).encode() for size in (0, 1, 7, 8, 97, 98, 997, 998, 70_000, 3)]
    with Wire(server.port) as wire:
        for body in bodies:
            wire.send(raw_invoke(echo, body))
            assert wire.answer().json()["body"] == json.loads(body)
        wire.send(*(raw_invoke(echo, body) for body in bodies))
        assert [wire.answer().json()["body"] for _ in bodies] == [json.loads(body) for body in bodies]


@pytest.mark.parametrize("at", [1, 10, 60, 95, 110, 130, 140, -1])
def test_requests_cut_anywhere(server: Server, echo: Function, at: int) -> None:
    """Whole, then in two parts, then with the beginning of the next one behind it."""
    request = raw_invoke(echo, b'{"a": [1, 2, 3]}')
    with Wire(server.port) as wire:
        wire.send(request)
        assert wire.answer().status == 200
        for first, second in ((request[:at], request[at:]), (request + request[:at], request[at:])):
            wire.send(first)
            assert echo(1) == 1
            wire.send(second)
            assert wire.answer().json()["body"] == {"a": [1, 2, 3]}
        assert wire.answer().json()["body"] == {"a": [1, 2, 3]}


@pytest.mark.parametrize("length", ["-1", "+1", "1,1", "0x1", "1 1", "99999999999999999999999999", "", "\u0661"])
def test_a_bad_length_after_good_ones(server: Server, echo: Function, length: str) -> None:
    with Wire(server.port) as wire:
        for _ in range(2):
            wire.send(raw_invoke(echo, b"1"))
            assert wire.answer().status == 200
        wire.send(raw_invoke(echo, b"1", length or " "))
        assert wire.answer().status == 400
        assert wire.closed()
    assert echo(1) == 1


def test_a_repeated_head_is_checked_like_the_first(server: Server, echo: Function, api: Api) -> None:
    doomed = api.function()
    with Wire(server.port) as wire:
        for body, status in ((b"1", 200), (b"{bad", 400), (b"", 200), (b" " * (LIMIT + 1), 413), (b"1", 200)):
            wire.send(raw_invoke(echo, body))
            assert wire.answer().status == status
        wire.send(raw_invoke(doomed, b"1"), raw_invoke(echo, b"2"))
        assert [wire.answer().json()["body"] for _ in range(2)] == ["hi", 2]
        doomed.delete()
        wire.send(raw_invoke(doomed, b"1"))
        assert wire.answer().status == 404


def test_a_client_that_asks_and_goes_away(server: Server, echo: Function) -> None:
    for _ in range(3):
        with Wire(server.port) as wire:
            wire.send(raw_invoke(echo, b"1"))
            assert wire.answer().status == 200
            wire.send(raw_invoke(echo, b"2"), raw_invoke(echo, b"3"))
    assert echo(1) == 1
