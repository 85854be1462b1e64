"""Calls that a guest was sent before it had answered the one before them, and taking them back unread."""

from __future__ import annotations

import array
import asyncio
import fcntl
import socket
import termios
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from spinney.model import Call, Reply
from spinney.ports import Services

BYTES_MAX = 32768
"""Of all frames that are ahead together: far below what a socket buffers, so that none waits half-sent in this process."""


class Sent(NamedTuple):
    """One call on its way: its number and the size of its frame in bytes, who waits for it, and what it may ask of the host."""

    number: int
    size: int
    waiter: asyncio.Future[Reply]
    call: Call
    services: Services | None = None


class Ahead:
    """The calls that stand behind the running one, oldest first."""

    __slots__ = ("_sent", "size")

    def __init__(self) -> None:
        self._sent: deque[Sent] = deque()
        self.size = 0

    def __len__(self) -> int:
        return len(self._sent)

    def append(self, sent: Sent) -> None:
        self._sent.append(sent)
        self.size += sent.size

    def popleft(self) -> Sent:
        sent = self._sent.popleft()
        self.size -= sent.size
        return sent

    def remove(self, number: int) -> Sent | None:
        """One that its guest has given back; None when it is not there."""
        for sent in self._sent:
            if sent.number == number:
                self._sent.remove(sent)
                self.size -= sent.size
                return sent
        return None

    def clear(self) -> Iterator[Sent]:
        """All of them, removed."""
        while self._sent:
            yield self.popleft()

    def take_back(self, guest_end: socket.socket) -> list[Sent] | None:
        """Remove from the guest's own end of the channel the calls that it has not begun to read.

        None when it began to read at that very moment: it has got a part of a frame, and nothing more can be said to it.
        """
        unread = array.array("i", [0])
        fcntl.ioctl(guest_end, termios.FIONREAD, unread)
        taken, size = 0, 0
        while size < unread[0] and taken < len(self._sent):
            taken += 1
            size += self._sent[-taken].size
        if size != unread[0] or not size:
            return []
        try:
            got = len(guest_end.recv(size, socket.MSG_DONTWAIT))
        except BlockingIOError:
            return []
        if got != size:
            return None
        self.size -= size
        return [self._sent.pop() for _ in range(taken)]
