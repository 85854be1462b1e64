"""WebSocket connections: the frames are the ``websockets`` library's, bounds, pings and ends are ours.

A request for one is answered as any other (``SocketRoute``): by a response that refuses it, or by the conversation to hold.
What a client sends is read ahead a little, so that its pings are answered while its messages wait, and then no more; what it
does not read is waited for. Nobody may be silent, send one message, or leave what is sent to it lie, for too long.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, cast

import structlog
from websockets.datastructures import Headers as Fields
from websockets.exceptions import InvalidHandshake
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from spinney.http.hot import HotRequest, HotResponse
from spinney.http.wire import Headers

log = structlog.get_logger("spinney.http")

READ_AHEAD_BYTES = 1 << 20
MESSAGE_COST_BYTES = 256
"""What a message that waits counts beside its own length, so that many empty ones are not free."""
PING_S = 20.0
SILENT_MAX_S = 45.0
MESSAGE_MAX_S = 600.0
STALLED_MAX_S = 60.0
CLOSING_MAX_S = 5.0


class Gone(Exception):
    """The connection has ended: nothing can be sent any more."""


class BadHandshake(ValueError):
    """Not a request for a WebSocket that we could grant."""


def accept_key(headers: Headers) -> bytes:
    """What the answer to a handshake must say. Extensions and subprotocols are ignored. Raises BadHandshake."""
    fields = Fields([(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers])
    try:
        return ServerProtocol().process_request(Request("/", fields))[0].encode()
    except InvalidHandshake as error:
        raise BadHandshake(str(error)) from None


class WebSocket(asyncio.Protocol):
    """One connection after its handshake. A conversation receives in one task and sends from any number."""

    def __init__(self, message_max_bytes: int) -> None:
        self._frames = ServerProtocol(state=OPEN, max_size=message_max_bytes)
        self._loop = asyncio.get_running_loop()
        self._messages: deque[str | bytes] = deque()
        self._waiting_bytes = 0
        self._arrived = asyncio.Event()
        self._part = bytearray()
        self._part_is_text = False
        self._began: float | None = None
        self._reading = True
        self._writable = asyncio.Event()
        self._writable.set()
        self._sending = asyncio.Lock()
        self._draining = False
        self._closed = False
        self._heard = self._pinged = self._loop.time()
        self._unsent = (0, 0.0)
        self._timer: asyncio.TimerHandle | None = None
        self._transport: Any = None
        self._among: tuple[set[Any], ...] = ()

    # -- what a conversation uses --------------------------------------------------------------------------------------

    async def receive(self) -> str | bytes | None:
        """The next message; None when there are no more, because the client has closed or the server is draining."""
        while not self._messages or self._draining:
            if self._draining or self._frames.state is not OPEN:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        message = self._messages.popleft()
        self._waiting_bytes -= _cost(message)
        self._regulate()
        return message

    async def send(self, data: bytes, *, text: bool = True) -> None:
        """Send one message, when the client has taken enough of those before; ``text`` is in UTF-8. Raises Gone."""
        async with self._sending:
            await self._writable.wait()
            if self._frames.state is not OPEN:
                raise Gone
            send = self._frames.send_text if text else self._frames.send_binary
            send(data)
            self._flush()

    # -- what the server calls -----------------------------------------------------------------------------------------

    def open(self, transport: Any, conversation: Conversation, *among: set[Any], tasks: set[asyncio.Task[None]]) -> None:
        """Begin. Until it ends the connection is ``among`` others, and its conversation among the ``tasks``."""
        self._transport = transport
        self._among = among
        for connections in among:
            connections.add(self)
        transport.set_protocol(self)
        task = self._loop.create_task(self._converse(conversation))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _converse(self, conversation: Conversation) -> None:
        code = CloseCode.INTERNAL_ERROR
        try:
            await conversation(self)
            code = CloseCode.GOING_AWAY if self._draining else CloseCode.NORMAL_CLOSURE
        except (Gone, asyncio.CancelledError):
            code = CloseCode.GOING_AWAY  # only the end of the server cancels it
        except Exception:
            log.exception("a WebSocket conversation failed")
        self.close(code)

    def close(self, code: int, reason: str = "") -> None:
        """Begin the closing handshake, unless it has begun."""
        if self._frames.state is OPEN:
            self._frames.send_close(code, reason)
            self._end()

    def shutdown(self) -> None:
        """Drain: the conversation gets no more messages, and the connection is closed when it has ended."""
        self._draining = True
        self._arrived.set()

    def tend(self, now: float) -> None:
        """Ping, and end a connection that has taken too long over something. To be called every few seconds."""
        if self._frames.state is not OPEN:
            return
        if not self._writable.is_set():
            self._watch_reader(now)
        elif self._reading and now - self._heard > SILENT_MAX_S:
            self._fail(CloseCode.INTERNAL_ERROR, "no answer to a ping")
        elif self._began is not None and now - self._began > MESSAGE_MAX_S:
            self._fail(CloseCode.POLICY_VIOLATION, "the message took too long to arrive")
        elif now - self._pinged >= PING_S:
            self._pinged = now
            self._frames.send_ping(b"")
            self._flush()

    def _watch_reader(self, now: float) -> None:
        """Whether the client still takes, however slowly, what is sent to it."""
        unsent = self._transport.get_write_buffer_size()
        if unsent != self._unsent[0]:
            self._unsent = (unsent, now)
        elif now - self._unsent[1] > STALLED_MAX_S:
            self._transport.abort()

    # -- what the transport calls --------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        self._frames.receive_data(data)
        frames = self._frames.events_received()
        for frame in frames:
            self._take(cast(Frame, frame))
        if frames and not self._part:
            self._began = None
        elif self._began is None:
            self._began = self._heard
        if self._frames.state is OPEN:
            self._flush()
            self._regulate()
        else:
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._frames.receive_eof()
        for connections in self._among:
            connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        self._arrived.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()
        self._unsent = (self._transport.get_write_buffer_size(), self._loop.time())
        self._regulate()

    def resume_writing(self) -> None:
        self._writable.set()
        self._regulate()

    # -- messages ------------------------------------------------------------------------------------------------------

    def _take(self, frame: Frame) -> None:
        """Put a frame to its message. Fragments are joined at once: any number of empty ones takes no room."""
        if self._closed:
            return
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._part_is_text = frame.opcode is Opcode.TEXT
        elif frame.opcode is not Opcode.CONT:
            return
        if not frame.fin:
            self._part += frame.data
            return
        data = bytes(self._part + frame.data) if self._part else bytes(frame.data)
        self._part = bytearray()
        try:
            message = data.decode() if self._part_is_text else data
        except UnicodeDecodeError:
            self._fail(CloseCode.INVALID_DATA, "a text that is not UTF-8")
            return
        self._messages.append(message)
        self._waiting_bytes += _cost(message)
        self._arrived.set()

    def _regulate(self) -> None:
        """Read while there is room for what comes and the client reads what it gets (its pings get answers, too)."""
        room = self._waiting_bytes < READ_AHEAD_BYTES and self._writable.is_set()
        reading = room or self._frames.state is not OPEN
        if reading != self._reading and not self._transport.is_closing():
            self._reading = reading
            if reading:
                self._heard = self._loop.time()
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _flush(self) -> None:
        for data in self._frames.data_to_send():
            if self._transport.is_closing():
                return
            if data:
                self._transport.write(data)
            else:  # not wholly: what the client is still sending would make the kernel throw away what we have sent
                self._transport.write_eof()

    # -- the end -------------------------------------------------------------------------------------------------------

    def _fail(self, code: int, reason: str) -> None:
        self._frames.fail(code, reason)
        self._end()

    def _end(self) -> None:
        """Nothing is taken or sent any more; the client has a while to read what was sent, and to close."""
        self._closed = True
        self._flush()
        self._arrived.set()
        self._writable.set()
        self._regulate()
        if self._timer is None:
            self._unsent = (self._transport.get_write_buffer_size(), self._loop.time())
            self._timer = self._loop.call_later(CLOSING_MAX_S, self._await_end)

    def _await_end(self) -> None:
        if self._transport.get_write_buffer_size():
            self._timer = self._loop.call_later(CLOSING_MAX_S, self._await_end)
            self._watch_reader(self._loop.time())
        else:
            self._transport.abort()


Conversation = Callable[[WebSocket], Awaitable[None]]


class SocketRoute(NamedTuple):
    """Where WebSockets are to be had."""

    answer: Callable[[HotRequest], Awaitable[HotResponse | Conversation]]
    """Judges a request: the response that refuses it, or the conversation to hold."""
    message_max_bytes: int


def _cost(message: str | bytes) -> int:
    return len(message) + MESSAGE_COST_BYTES
