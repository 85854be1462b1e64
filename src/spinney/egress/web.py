"""HTTP requests that the host makes for functions (Lunar contract 3.9)."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import ssl
from collections.abc import Sequence
from http.cookiejar import CookieJar, DefaultCookiePolicy
from urllib.parse import parse_qsl, urlencode

import httpcore2
import httpx2

from spinney.egress.connect import CheckedBackend, NotAllowed, Resolve, SystemResolver, Unresolved
from spinney.egress.policy import EgressPolicy
from spinney.errors import Denied, Invalid, Timeout, Unavailable
from spinney.ports import WebRequest, WebResponse

BODIES_BYTES_MAX = 256 << 20
"""Of all responses that are being read."""
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
NO_VALUE = re.compile(r"[\r\n\0]")
AGENT = "Spinney"

OURS = frozenset(
    ("host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade", "expect")
)
"""Headers that say how a message is sent; a function's own words for them are dropped."""

FAILED = "HTTP request failed: "
UNREAD = "failed to read response body: "


class HttpWeb:
    """Implements ports.Web. Connections are not kept: none is ever used for two functions.

    resolve: how names are resolved; certificates: whose signatures count. Both are the system's own by default.
    """

    def __init__(self, policy: EgressPolicy, resolve: Resolve | None = None, certificates: ssl.SSLContext | None = None) -> None:
        self._resolver = SystemResolver()
        context = httpx2.create_ssl_context() if certificates is None else certificates
        self._client = httpx2.AsyncClient(
            transport=_Transport(CheckedBackend(policy, resolve or self._resolver), context),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),  # what one function is given is nothing to the next
            trust_env=False,
            timeout=None,
        )
        self._reading_bytes = 0
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # it would log every URL

    async def fetch(self, request: WebRequest) -> WebResponse:
        """One response, of any status. Raises Invalid, Denied, Timeout or Unavailable with a message for the function's user."""
        outgoing = _build(request)
        failed = FAILED
        try:
            async with asyncio.timeout(request.timeout_s):
                response = await self._send(outgoing, request.redirects)
                failed = UNREAD
                return await self._read(response, request.limit_bytes)
        except TimeoutError:
            raise Timeout(f"{failed}no answer within {request.timeout_s:g} s") from None
        except NotAllowed as error:
            raise Denied(f"{FAILED}destination not allowed: {error}") from None
        except Unresolved as error:
            raise Unavailable(f"{FAILED}no such host: {error}") from None
        except httpx2.ConnectError as error:
            raise Unavailable(f"{FAILED}no connection: {_reason(error)}") from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise Unavailable(f"{failed}{error or type(error).__name__}") from None

    async def _send(self, request: httpx2.Request, redirects: int) -> httpx2.Response:
        followed = 0
        while True:
            _check_scheme(request.url)
            response = await self._client.send(request, stream=True)
            if not redirects or not response.has_redirect_location:
                return response
            await response.aclose()
            if response.next_request is None:
                raise Unavailable(f"{FAILED}the redirect leads nowhere")
            if followed == redirects:
                raise Unavailable(f"{FAILED}stopped after {redirects} redirects")
            followed += 1
            request = response.next_request

    async def _read(self, response: httpx2.Response, limit_bytes: int) -> WebResponse:
        body = bytearray()
        try:
            async for part in response.aiter_raw():
                body += part
                self._reading_bytes += len(part)
                if len(body) > limit_bytes:
                    raise Unavailable(f"{UNREAD}response too large")
                if self._reading_bytes > BODIES_BYTES_MAX:
                    raise Unavailable(f"{UNREAD}too many large responses at the same time")
        finally:
            self._reading_bytes -= len(body)
            await response.aclose()
        headers = [(_canonical(_text(name)), _text(value)) for name, value in response.headers.raw]
        return WebResponse(status=response.status_code, headers=headers, body=bytes(body), url=str(response.url))

    async def close(self) -> None:
        """Close what is open. Idempotent."""
        await self._client.aclose()
        self._resolver.close()


class _Transport(httpx2.AsyncHTTPTransport):
    """HTTP/1.1 over connections that the backend makes; httpx has no other way to choose one."""

    def __init__(self, backend: CheckedBackend, context: ssl.SSLContext) -> None:
        super().__init__(verify=context, trust_env=False)
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=context, max_connections=None, max_keepalive_connections=0, network_backend=backend
        )


def _build(request: WebRequest) -> httpx2.Request:
    """Raises Invalid."""
    try:
        url = httpx2.URL(request.url)
    except (httpx2.InvalidURL, UnicodeError, ValueError) as error:
        raise Invalid(f"failed to parse URL: {error}") from None
    _check_scheme(url)
    if not url.host:
        raise Invalid(f"{FAILED}no host in the URL")
    if request.query:
        pairs = [*parse_qsl(url.query.decode("ascii", "replace"), keep_blank_values=True), *request.query]
        url = url.copy_with(query=urlencode(sorted(pairs, key=lambda pair: pair[0]), errors="replace").encode())
    if not TOKEN.fullmatch(request.method) or request.method.upper() == "CONNECT":
        raise Invalid(f"failed to create request: invalid method '{request.method[:20]}'")
    try:
        return httpx2.Request(request.method, url, headers=_headers(request.headers), content=request.body)
    except (UnicodeError, ValueError, TypeError) as error:
        raise Invalid(f"failed to create request: {error}") from None


def _check_scheme(url: httpx2.URL) -> None:
    if url.scheme not in ("http", "https"):
        raise Invalid(f"{FAILED}unsupported protocol scheme '{url.scheme[:20]}'")


def _headers(given: Sequence[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    headers = {"user-agent": AGENT, "accept": "*/*", "accept-encoding": "identity", "connection": "close"}
    own: list[tuple[bytes, bytes]] = []
    for name, value in given:
        if not TOKEN.fullmatch(name) or NO_VALUE.search(value):
            raise Invalid(f"failed to create request: invalid header '{name[:50]}'")
        if name.lower() not in OURS:
            headers.pop(name.lower(), None)
            own.append((name.encode(), value.strip(" \t").encode("utf-8", "replace")))
    return [*own, *((name.title().encode(), value.encode()) for name, value in headers.items())]


def _canonical(name: str) -> str:
    return "-".join(part.capitalize() for part in name.split("-"))


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _reason(error: BaseException) -> str:
    """What an operating system or TLS said first, without addresses."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return str(getattr(cause, "verify_message", "") or cause.reason or "TLS failed").lower().replace("_", " ")
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno).lower()
        cause = cause.__cause__ or cause.__context__
    return "it was refused"
