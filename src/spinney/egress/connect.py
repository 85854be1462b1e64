"""Connections to addresses that have been checked: a name is resolved once, and only what was looked at is connected to.

The other end may be hostile: it gets a share of the event loop's thread, not all of it.
"""

# ruff: noqa: ASYNC109  the signatures with timeouts are httpcore's

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from socket import IPPROTO_TCP, SOCK_STREAM, gaierror, getaddrinfo
from time import thread_time
from typing import Any

import httpcore2
from httpcore2 import AnyIOBackend, AsyncNetworkBackend, AsyncNetworkStream

from spinney.egress.policy import EgressPolicy

READ_BYTES = 16384
"""Read at a time: what is made of it holds up everybody else."""
PARSE_S_MAX = 0.5
"""Time of the processor that one response may take to be understood; ten megabytes in pieces of a sane size take a tenth."""
RESOLVER_THREADS = 16
ADDRESSES_MAX = 4

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""From a host and a port to IP addresses. Raises OSError."""


class NotAllowed(Exception):
    """No address of the host may be reached."""


class Unresolved(Exception):
    """The host has no address."""


class SystemResolver:
    """The system's own resolver, in threads of its own: names that take long hold up nothing but each other."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="resolve")

    async def __call__(self, host: str, port: int) -> list[str]:
        def resolve() -> list[str]:
            found = getaddrinfo(host, port, type=SOCK_STREAM, proto=IPPROTO_TCP)
            return list(dict.fromkeys(str(address[4][0]) for address in found))

        return await asyncio.get_running_loop().run_in_executor(self._threads, resolve)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class CheckedBackend(AsyncNetworkBackend):
    """Connects to hosts whose addresses the policy allows, and to those addresses only."""

    def __init__(self, policy: EgressPolicy, resolve: Resolve) -> None:
        self._policy = policy
        self._resolve = resolve
        self._plain = AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> AsyncNetworkStream:
        """As in httpcore. Raises NotAllowed and Unresolved besides."""
        try:
            addresses = await self._resolve(host, port)
        except (gaierror, OSError, UnicodeError) as error:
            raise Unresolved(host) from error
        allowed = [address for address in addresses if self._policy.allows(address)]
        if not allowed:
            raise NotAllowed(host) if addresses else Unresolved(host)
        failure: httpcore2.ConnectError | None = None
        for address in allowed[:ADDRESSES_MAX]:
            try:
                return MeteredStream(await self._plain.connect_tcp(address, port, timeout))
            except httpcore2.ConnectError as error:
                failure = error
        assert failure is not None
        raise failure

    async def connect_unix_socket(self, path: str, timeout: float | None = None, socket_options: Any = None) -> Any:
        """Never."""
        raise NotAllowed(path)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class MeteredStream(AsyncNetworkStream):
    """A connection whose other end cannot keep this thread busy: little is read at a time, and what is made of it is timed."""

    def __init__(self, stream: AsyncNetworkStream) -> None:
        self._stream = stream
        self._spent_s = 0.0
        self._read_at: float | None = None

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._read_at is not None:
            self._spent_s += thread_time() - self._read_at
            if self._spent_s > PARSE_S_MAX:
                raise httpcore2.RemoteProtocolError("the response takes too long to be read")
        data = await self._stream.read(min(max_bytes, READ_BYTES), timeout)
        self._read_at = thread_time()
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._read_at = None
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> AsyncNetworkStream:
        return MeteredStream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
