"""Taking unread calls back out of a guest's socket: all of them, some, none, and the moment when the guest reads."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from spinney.drivers.ahead import Ahead, Sent
from spinney.model import Call

pytestmark = pytest.mark.anyio
SIZES = (30, 50, 70)


class Sockets:
    """A channel with three calls in it that stand behind a fourth."""

    def __init__(self) -> None:
        self.host, self.guest = socket.socketpair()
        self.guest.setblocking(False)
        self.ahead = Ahead()
        loop = asyncio.get_running_loop()
        self.sent = [Sent(number, size, loop.create_future(), Call("id", b"", 1.0)) for number, size in enumerate(SIZES)]
        for sent in self.sent:
            self.ahead.append(sent)
            self.host.sendall(bytes([sent.number]) * sent.size)

    def unread(self) -> bytes:
        try:
            return self.guest.recv(1 << 16)
        except BlockingIOError:
            return b""


@pytest.fixture
async def sockets() -> Iterator[Sockets]:  # type: ignore[misc]
    sockets = Sockets()
    yield sockets
    sockets.host.close()
    sockets.guest.close()


async def test_calls_that_nobody_has_read(sockets: Sockets) -> None:
    assert sockets.ahead.take_back(sockets.guest) == sockets.sent[::-1]
    assert (len(sockets.ahead), sockets.ahead.size, sockets.unread()) == (0, 0, b"")


@pytest.mark.parametrize("read", [1, 2, 3])
async def test_calls_that_were_read_stay(sockets: Sockets, read: int) -> None:
    sockets.guest.recv(sum(SIZES[:read]))
    assert sockets.ahead.take_back(sockets.guest) == sockets.sent[: read - 1 : -1]
    assert list(sockets.ahead.clear()) == sockets.sent[:read]
    assert sockets.unread() == b""


@pytest.mark.parametrize("read", [1, 29, 31, 149])
async def test_a_call_that_is_being_read_keeps_all_where_they_are(sockets: Sockets, read: int) -> None:
    sockets.guest.recv(read)
    assert sockets.ahead.take_back(sockets.guest) == []
    assert len(sockets.ahead) == 3
    assert len(sockets.unread()) == sum(SIZES) - read


async def test_the_moment_between_looking_and_taking(sockets: Sockets) -> None:
    class Late:
        """A guest's end that its guest reads from just before we do."""

        def fileno(self) -> int:
            return sockets.guest.fileno()

        def recv(self, size: int, flags: int) -> bytes:
            sockets.guest.recv(9)
            return sockets.guest.recv(size, flags)

    assert sockets.ahead.take_back(Late()) is None  # type: ignore[arg-type]


async def test_nothing_is_there(sockets: Sockets) -> None:
    assert Ahead().take_back(sockets.guest) == []
    assert len(sockets.unread()) == sum(SIZES)
