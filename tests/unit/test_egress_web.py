"""What the host fetches for functions: sent and read as it should be, only from where the policy allows, within bounds."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import thread_time

import pytest
from tests.loopback import Answer, Received, endlessly, never, opened, response, saying

from spinney.egress import connect
from spinney.egress import web as web_module
from spinney.egress.policy import EgressPolicy
from spinney.egress.web import HttpWeb
from spinney.errors import Denied, Error, Invalid, Timeout, Unavailable
from spinney.ports import WebRequest, WebResponse

pytestmark = pytest.mark.anyio
CERTIFICATE = Path(__file__).parents[1] / "certificates" / "secure.test.pem"
LOOPBACK = ("127.0.0.1/32",)
MB = 1 << 20


class Names:
    """A resolver whose answers a test decides; a list of lists is used up, its last member stays."""

    def __init__(self, known: Mapping[str, Sequence[Sequence[str]]]) -> None:
        self.known = {name: list(answers) for name, answers in known.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        answers = self.known.get(host, [[host]])
        return answers.pop(0) if len(answers) > 1 else answers[0]


@asynccontextmanager
async def made(allowed: Sequence[str] = LOOPBACK, **options: object) -> AsyncIterator[HttpWeb]:
    web = HttpWeb(EgressPolicy(allowed), **options)  # type: ignore[arg-type]
    try:
        yield web
    finally:
        await web.close()


async def get(web: HttpWeb, url: str, **fields: object) -> WebResponse:
    return await web.fetch(WebRequest(method="GET", url=url, **fields))  # type: ignore[arg-type]


@asynccontextmanager
async def site_and_web(answer: Answer) -> AsyncIterator[tuple[str, HttpWeb]]:
    async with opened(answer) as site, made() as web:
        yield site.url(), web


# -- requests and responses --------------------------------------------------------------------------------------------


async def test_a_request_arrives_as_it_was_meant() -> None:
    async with opened(saying(response(b"\0body\xff", status=418, headers=(("x-a", "1"), ("X-A", "2"))))) as site, made() as web:
        sent = WebRequest(
            method="PUT",
            url=site.url("/p%20a/th?b=2&a=%20x&a=1#fragment"),
            headers=[("Content-Type", "text/plain"), ("X-Own", "ü"), ("Cookie", "a=b"), ("X-Own", "again")],
            query=[("a", "0&"), ("c", "ä")],
            body=b"\0\xff",
        )
        got = await web.fetch(sent)
    (received,) = site.requests
    assert (received.method, received.target) == ("PUT", "/p%20a/th?a=+x&a=1&a=0%26&b=2&c=%C3%A4")
    assert received.body == b"\0\xff"
    headers = received.headers
    assert (headers["host"], headers["content-length"], headers["cookie"]) == (f"127.0.0.1:{site.port}", "2", "a=b")
    assert headers["content-type"] == "text/plain"
    assert (headers["user-agent"], headers["accept-encoding"]) == ("Spinney", "identity")
    assert (got.status, got.body) == (418, b"\0body\xff")
    assert list(got.headers) == [("X-A", "1"), ("X-A", "2"), ("Content-Length", "6")]


async def test_a_url_without_more_query_stays_as_it_is() -> None:
    async with opened(saying(response())) as site, made() as web:
        got = await get(web, site.url("/?b=%41&a=%2f"))
    assert site.requests[0].target == "/?b=%41&a=%2f"
    assert "content-type" not in site.requests[0].headers
    assert "content-length" not in site.requests[0].headers
    assert got.url == site.url("/?b=%41&a=%2f")


async def test_how_a_message_is_sent_is_not_the_functions_affair() -> None:
    smuggled = [("Host", "inside"), ("Content-Length", "0"), ("Transfer-Encoding", "chunked"), ("connection", "upgrade")]
    async with opened(saying(response())) as site, made() as web:
        await web.fetch(WebRequest(method="POST", url=site.url(), headers=smuggled, body=b"abc"))
    (received,) = site.requests
    assert received.body == b"abc"
    assert received.headers["host"] == f"127.0.0.1:{site.port}"
    assert received.headers["connection"] == "close"
    assert "transfer-encoding" not in received.headers


async def test_a_user_in_the_url_is_sent_as_such() -> None:
    async with opened(saying(response())) as site, made() as web:
        await get(web, site.url().replace("//", "//me:secret@"))
    assert site.requests[0].headers["authorization"] == "Basic bWU6c2VjcmV0"


async def test_compressed_bodies_are_handed_on_as_they_are() -> None:
    bomb = b"\x1f\x8b" + bytes(1000)
    async with site_and_web(saying(response(bomb, headers=(("Content-Encoding", "gzip"),)))) as (url, web):
        assert (await get(web, url)).body == bomb


async def test_nothing_is_kept_from_one_request_to_the_next() -> None:
    async with opened(saying(response(headers=(("Set-Cookie", "session=1; Path=/"),)))) as site, made() as web:
        for _ in range(3):
            await get(web, site.url())
    assert all("cookie" not in received.headers for received in site.requests)
    assert site.connections == 3


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(saying(response(b"proxy"))) as proxy, opened(saying(response(b"site"))) as site:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url())
        async with made() as web:
            assert (await get(web, site.url())).body == b"site"
    assert proxy.connections == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"url": "http://[::1"}, "failed to parse URL: "),
        ({"url": "http://a:x/"}, "failed to parse URL: "),
        ({"url": "http://a\0b/"}, "failed to parse URL: "),
        ({"url": "http://" + "a" * 70_000}, "failed to parse URL: "),
        ({"url": "ftp://a/"}, "HTTP request failed: unsupported protocol scheme 'ftp'"),
        ({"url": "file:///etc/passwd"}, "HTTP request failed: unsupported protocol scheme 'file'"),
        ({"url": "/path"}, "HTTP request failed: unsupported protocol scheme ''"),
        ({"url": ""}, "HTTP request failed: unsupported protocol scheme ''"),
        ({"url": "http:///path"}, "HTTP request failed: no host in the URL"),
        ({"method": "G ET"}, "failed to create request: invalid method"),
        ({"method": ""}, "failed to create request: invalid method"),
        ({"method": "GET / HTTP/1.1\r\nX: y"}, "failed to create request: invalid method"),
        ({"method": "CONNECT"}, "failed to create request: invalid method"),
        ({"headers": [("X: a", "b")]}, "failed to create request: invalid header"),
        ({"headers": [("X", "a\r\nY: b")]}, "failed to create request: invalid header"),
        ({"headers": [("X", "a\0")]}, "failed to create request: invalid header"),
        ({"headers": [("ü", "a")]}, "failed to create request: invalid header"),
    ],
)
async def test_what_is_no_request(fields: Mapping[str, object], message: str) -> None:
    async with made() as web:
        with pytest.raises(Invalid) as caught:
            await web.fetch(WebRequest(**{"method": "GET", "url": "http://127.0.0.1:1/", **fields}))  # type: ignore[arg-type]
    assert caught.value.message.startswith(message)


# -- where it goes -----------------------------------------------------------------------------------------------------

REFUSED_HOSTS = (
    *("127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "0x7f.1", "127.1", "0", "0.0.0.0"),
    *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[::127.0.0.1]"),
    *("LOCALHOST", "127.0.0.1.", "①②⑦.⓪.⓪.①"),
)


@pytest.mark.parametrize("host", REFUSED_HOSTS)
async def test_this_machine_is_not_reached_by_any_name(host: str) -> None:
    async with opened(saying(response())) as site, made(()) as web:
        with pytest.raises(Error) as caught:
            await get(web, site.url(host=host))
    assert site.connections == 0
    assert caught.value.message.startswith(("HTTP request failed: ", "failed to parse URL: "))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "10.0.0.1"])
async def test_who_is_refused_is_told_so(host: str) -> None:
    async with made(()) as web:
        with pytest.raises(Denied) as caught:
            await get(web, f"http://{host}:1/latest/meta-data")
    assert caught.value.message == f"HTTP request failed: destination not allowed: {host.strip('[]')}"


async def test_a_name_that_changes_between_the_look_and_the_connection() -> None:
    names = Names({"rebind.test": [["127.0.0.1"], ["127.0.0.2"]]})
    async with opened(saying(response(b"inside")), host="127.0.0.2") as inside, made(resolve=names) as web:
        with pytest.raises(Unavailable, match="no connection: connection refused"):
            await get(web, inside.url(host="rebind.test"))
        assert names.asked == ["rebind.test"], "what was checked is what is connected to"
        with pytest.raises(Denied, match=r"destination not allowed: rebind\.test$"):
            await get(web, inside.url(host="rebind.test"))
        assert inside.connections == 0


async def test_a_name_with_addresses_of_both_kinds() -> None:
    names = Names({"mixed.test": [["127.0.0.2", "10.0.0.1", "127.0.0.1", "::1"]]})
    async with opened(saying(response(b"public"))) as site, made(resolve=names) as web:
        assert (await get(web, site.url(host="mixed.test"))).body == b"public"
        assert site.requests[0].headers["host"] == f"mixed.test:{site.port}"


async def test_the_next_address_is_tried() -> None:
    names = Names({"two.test": [["127.0.0.3", "127.0.0.1"]]})
    async with opened(saying(response(b"second"))) as site, made(("127.0.0.0/8",), resolve=names) as web:
        assert (await get(web, site.url(host="two.test"))).body == b"second"


async def test_names_that_nobody_knows() -> None:
    async def unknown(host: str, port: int) -> Sequence[str]:
        raise OSError("the resolver is down")

    for resolve in (unknown, Names({"nowhere.test": [[]]})):
        async with made(resolve=resolve) as web:
            with pytest.raises(Unavailable, match=r"^HTTP request failed: no such host: nowhere.test$"):
                await get(web, "http://nowhere.test/")


# -- redirects ---------------------------------------------------------------------------------------------------------


def redirecting(to: Callable[[Received], str], status: int = 302) -> Answer:
    async def answer(received: Received, writer: asyncio.StreamWriter) -> None:
        if received.target == "/end":
            writer.write(response(b"end"))
        else:
            writer.write(response(b"gone", status=status, headers=(("Location", to(received)), ("Set-Cookie", "a=b; Path=/"))))

    return answer


async def test_redirects_are_followed() -> None:
    async with opened(redirecting(lambda _: "/end")) as site, made() as web:
        got = await web.fetch(WebRequest(method="POST", url=site.url(), body=b"x", headers=[("Authorization", "Bearer t")]))
    assert (got.status, got.body, got.url) == (200, b"end", site.url("/end"))
    first, second = site.requests
    assert (first.method, second.method, second.body) == ("POST", "GET", b"")
    assert second.headers["authorization"] == "Bearer t", "the same origin"
    assert "cookie" not in second.headers


async def test_a_redirect_that_keeps_method_and_body() -> None:
    async with opened(redirecting(lambda _: "/end", 307)) as site, made() as web:
        await web.fetch(WebRequest(method="POST", url=site.url(), body=b"x"))
    assert (site.requests[1].method, site.requests[1].body) == ("POST", b"x")


async def test_redirects_end_somewhere() -> None:
    async with opened(redirecting(lambda received: received.target + "x")) as site, made() as web:
        with pytest.raises(Unavailable, match=r"^HTTP request failed: stopped after 10 redirects$"):
            await get(web, site.url())
        assert len(site.requests) == 11
        assert (await get(web, site.url(), redirects=0)).status == 302


@pytest.mark.parametrize(
    "target", ["http://127.0.0.2:{port}/end", "http://inside.test:{port}/end", "http://[::ffff:127.0.0.2]:{port}/end"]
)
async def test_each_hop_is_checked(target: str) -> None:
    names = Names({"inside.test": [["127.0.0.2"]]})
    async with opened(saying(response(b"inside")), host="127.0.0.2") as inside:
        async with opened(redirecting(lambda _: target.format(port=inside.port))) as site, made(resolve=names) as web:
            with pytest.raises(Denied, match="destination not allowed"):
                await get(web, site.url())
        assert inside.connections == 0


async def test_a_name_that_turns_inward_after_a_redirect_to_itself() -> None:
    names = Names({"turn.test": [["127.0.0.1"], ["169.254.169.254"]]})
    async with opened(redirecting(lambda _: "/end")) as site, made(resolve=names) as web:
        with pytest.raises(Denied, match=r"destination not allowed: turn\.test$"):
            await get(web, site.url(host="turn.test"))


@pytest.mark.parametrize("target", ["file:///etc/passwd", "gopher://127.0.0.1/", "javascript:1"])
async def test_redirects_stay_with_http(target: str) -> None:
    async with opened(redirecting(lambda _: target)) as site, made() as web:
        with pytest.raises(Error, match=r"^HTTP request failed: "):
            await get(web, site.url())


async def test_credentials_do_not_go_to_another_origin() -> None:
    async with opened(saying(response())) as other, opened(redirecting(lambda _: other.url("/end"))) as site, made() as web:
        headers = [("Authorization", "Bearer t"), ("Cookie", "a=b")]
        await get(web, site.url(), headers=headers)
    assert not {"authorization", "cookie"} & set(other.requests[0].headers)


# -- bounds ------------------------------------------------------------------------------------------------------------

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_the_largest_body() -> None:
    async with site_and_web(saying(response(bytes(10 * MB)))) as (url, web):
        assert len((await get(web, url)).body) == 10 * MB


@pytest.mark.parametrize(
    "answer",
    [
        saying(response(bytes(10 * MB + 1))),
        endlessly(CHUNKED, b"10000\r\n" + bytes(65536) + b"\r\n"),
        endlessly(b"HTTP/1.1 200 OK\r\n\r\n", bytes(65536)),
    ],
    ids=["a byte", "chunks", "until it closes"],
)
async def test_larger_bodies_are_not_read(answer: Answer) -> None:
    async with site_and_web(answer) as (url, web):
        with pytest.raises(Unavailable, match=r"^failed to read response body: response too large$"):
            await get(web, url)
        with pytest.raises(Unavailable, match="too large"):
            await get(web, url, limit_bytes=100)
        assert web._reading_bytes == 0


async def test_all_bodies_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_module, "BODIES_BYTES_MAX", 3 * MB)

    async def half(received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4194304\r\n\r\n" + bytes(2 * MB))
        await writer.drain()
        await never(received, writer)

    async with opened(half) as slow, opened(saying(response(bytes(2 * MB)))) as site, made() as web:
        held = asyncio.create_task(get(web, slow.url()))
        while web._reading_bytes < 2 * MB:  # noqa: ASYNC110  nothing else tells
            await asyncio.sleep(0.001)
        with pytest.raises(Unavailable, match="too many large responses at the same time"):
            await get(web, site.url())
        held.cancel()
        await asyncio.gather(held, return_exceptions=True)
        assert len((await get(web, site.url())).body) == 2 * MB
        assert web._reading_bytes == 0


async def test_who_does_not_answer() -> None:
    async with site_and_web(never) as (url, web):
        with pytest.raises(Timeout, match=r"^HTTP request failed: no answer within 0.2 s$"):
            await get(web, url, timeout_s=0.2)


async def test_who_stops_half_way() -> None:
    async def answer(received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        await writer.drain()
        await never(received, writer)

    async with site_and_web(answer) as (url, web):
        with pytest.raises(Timeout, match=r"^failed to read response body: no answer within 0.5 s$"):
            await get(web, url, timeout_s=0.5)


async def test_who_dawdles() -> None:
    async def answer(_: Received, writer: asyncio.StreamWriter) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 10_000:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.02)

    async with site_and_web(answer) as (url, web):
        with pytest.raises(Timeout, match=r"^HTTP request failed: "):
            await get(web, url, timeout_s=0.5)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (b"", "HTTP request failed: "),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "HTTP request failed: "),
        (b"\0\xff" * 1000, "HTTP request failed: "),
        (b"HTTP/1.1 abc\r\n\r\n", "HTTP request failed: "),
        (b"HTTP/1.1 200 OK\r\nX\r\n\r\n", "HTTP request failed: "),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "HTTP request failed: "),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", "failed to read response body: "),
        (CHUNKED + b"zz\r\n", "failed to read response body: "),
        (CHUNKED + b"3\r\nabc\r\n", "failed to read response body: "),
        (b"HTTP/1.1 302 Found\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n", "HTTP request failed: "),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000, "HTTP request failed: "),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 500_000, "HTTP request failed: "),
    ],
)
async def test_garbage(said: bytes, message: str) -> None:
    async with site_and_web(saying(said)) as (url, web):
        with pytest.raises(Unavailable) as caught:
            await get(web, url)
    assert caught.value.message.startswith(message)
    assert len(caught.value.message) < 500


@pytest.mark.parametrize(
    "answer",
    [endlessly(b"", b"HTTP/1.1 100 C\r\n\r\n" * 1000), endlessly(CHUNKED, b"1\r\nx\r\n" * 1000)],
    ids=["never the last word", "bytes one by one"],
)
async def test_who_would_keep_the_server_busy(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "PARSE_S_MAX", 0.1)
    async with site_and_web(answer) as (url, web):
        before = thread_time()
        with pytest.raises(Unavailable, match="takes too long to be read"):
            await get(web, url)
        assert thread_time() - before < 2, "of ten million pieces"


async def test_a_fetch_that_nobody_waits_for_is_over() -> None:
    begun, gone = asyncio.Event(), asyncio.Event()

    async def answer(_: Received, writer: asyncio.StreamWriter) -> None:
        begun.set()
        while not writer.transport.is_closing():
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await asyncio.sleep(0.01)
        gone.set()

    async with site_and_web(answer) as (url, web):
        fetch = asyncio.create_task(get(web, url))
        await begun.wait()
        fetch.cancel()
        await asyncio.gather(fetch, return_exceptions=True)
        await gone.wait()
        assert fetch.cancelled()


# -- TLS ---------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def secure_site(names_seen: list[str | None]) -> AsyncIterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    context.sni_callback = lambda _, name, __: names_seen.append(name)
    async with opened(saying(response(b"secret")), tls=context) as site:
        yield site.port


async def test_tls_is_for_the_name_and_not_for_the_address() -> None:
    seen: list[str | None] = []
    names = Names({"secure.test": [["127.0.0.1"]], "other.test": [["127.0.0.1"]]})
    trusting = ssl.create_default_context(cafile=str(CERTIFICATE))
    async with secure_site(seen) as port, made(resolve=names, certificates=trusting) as web:
        got = await get(web, f"https://secure.test:{port}/")
        assert (got.body, seen) == (b"secret", ["secure.test"])
        with pytest.raises(Unavailable, match="no connection: hostname mismatch"):
            await get(web, f"https://other.test:{port}/")


async def test_a_certificate_that_nobody_has_signed() -> None:
    names = Names({"secure.test": [["127.0.0.1"]]})
    async with secure_site([]) as port, made(resolve=names) as web:
        with pytest.raises(Unavailable, match=r"no connection: .*certificate"):
            await get(web, f"https://secure.test:{port}/")


async def test_https_is_not_left_for_the_inside() -> None:
    names = Names({"secure.test": [["127.0.0.2"]]})
    async with secure_site([]) as port, made(resolve=names) as web:
        with pytest.raises(Denied):
            await get(web, f"https://secure.test:{port}/")
