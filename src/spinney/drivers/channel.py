"""The host's end of the guest channel (docs/guest-channel.md).

This is the hot path of every driver: one write and one read per warm call. Whatever arrives here was written by hostile code.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Sequence
from random import getrandbits
from time import perf_counter
from typing import cast

import msgspec

from spinney.drivers.ahead import BYTES_MAX, Ahead, Sent
from spinney.drivers.hostcalls import HOST_CALL, PAYLOAD_MAX, HostCalls
from spinney.drivers.outputs import CallLog, Outputs, ignore
from spinney.errors import StartFailed
from spinney.model import Call, LogLine, Outcome, Reply
from spinney.ports import Limits, Load, Services

HEADER = struct.Struct("<IIB")
INVOKE = struct.Struct("<IIBIII")
INVOKE_FIXED = 12
READY, LOAD, INVOKE_KIND, RESULT, LOG, WARM = 1, 2, 3, 4, 5, 10
OUTCOMES = (Outcome.OK, Outcome.ERROR, Outcome.LOAD_ERROR, Outcome.NO_HANDLER, Outcome.BAD_RESULT, Outcome.RESULT_TOO_LARGE)
NOT_BEGUN = 6
DO_NOT_REUSE = 0x80
LEVELS = ("info", "warn", "error", "debug")

FRAME_OVERHEAD = 65536
"""Room in a result frame for its meta and header beyond the largest body."""

WATCH_EVERY_S = 0.02
SLOW_S = 0.01
"""A call that runs longer does not keep others waiting that were sent behind it."""


class Watchdog:
    """Expires calls whose deadline is over; one coarse timer for all of a driver's calls, for a timer each costs microseconds."""

    def __init__(self) -> None:
        self._deadlines: dict[GuestChannel, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, channel: GuestChannel, deadline: float) -> None:
        self._deadlines[channel] = deadline
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WATCH_EVERY_S, self._check)

    def remove(self, channel: GuestChannel) -> None:
        self._deadlines.pop(channel, None)

    def _check(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for channel, deadline in list(self._deadlines.items()):
            if deadline <= now:
                channel.expire()
            elif channel.lingers:
                channel.recall()
        self._timer = loop.call_later(WATCH_EVERY_S, self._check) if self._deadlines else None


class GuestChannel(asyncio.Protocol):
    """Frames to and from one guest. Made by ``connect``; the owner calls ``close`` when the sandbox goes."""

    def __init__(self, watchdog: Watchdog, limits: Limits) -> None:
        self._watchdog = watchdog
        self._set_limits(limits)
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._call: Call | None = None
        self._services: Services | None = None
        self._host_calls: HostCalls | None = None  # made when a call asks for something
        self._waiter: asyncio.Future[Reply] | None = None
        self._log: CallLog | None = None  # made when a call logs its first line
        self._listening = False  # whether what is written now belongs to a call
        self._queued = b""
        self._started = 0.0
        self._ahead = Ahead()
        self._slow = False
        self.guest_end: Callable[[], socket.socket] | None = None
        """Gives the guest's own end of the channel; without it no call can be taken back, so none is sent ahead."""
        self.ready: asyncio.Future[str] = self._loop.create_future()
        self.ended = False
        self.outputs: Outputs | None = None

    @classmethod
    async def connect(
        cls, sock: socket.socket, stdout: int, stderr: int, watchdog: Watchdog, limits: Limits, *, logged: bool = True
    ) -> GuestChannel:
        """Take over a connected socket and the read ends of the output pipes; ``ready`` is set when the guest says so.

        ``logged``: whether what comes by the pipes is part of a call's log.
        """
        channel = cls(watchdog, limits)
        channel.outputs = Outputs(stdout, stderr, channel._take_output if logged else ignore)
        await channel._loop.create_unix_connection(lambda: channel, sock=sock)
        return channel

    async def warm(self) -> None:
        """Let a guest that is ready, and that nobody waits for, warm up; it says ready again. Raises StartFailed."""
        self.ready = self._loop.create_future()
        if self.ended or self._transport is None:
            raise StartFailed("the runtime ended before it was ready")
        self._transport.write(HEADER.pack(0, 0, WARM))
        await self.ready

    # -- calls ---------------------------------------------------------------------------------------------------------

    def load(self, load: Load) -> None:
        """Queue the load frame, which leaves in one write with the first invoke; its limits hold from now on."""
        self._set_limits(load.limits)
        self._queued = HEADER.pack(len(load.payload), 0, LOAD) + load.payload

    def _set_limits(self, limits: Limits) -> None:
        self._frame_max = limits.result_bytes + FRAME_OVERHEAD
        self._result_bytes = limits.result_bytes
        self._log_bytes = limits.log_bytes

    @property
    def may_send_ahead(self) -> bool:
        """Whether the guest may get a call while it runs another: it answers fast, without asking the host for anything, and logs
        by frames that name their call.
        """
        return (
            not self._slow
            and self._host_calls is None
            and self.guest_end is not None
            and self.outputs is not None
            and not self.outputs.used
        )

    def call(self, call: Call, deadline: float, services: Services | None = None) -> asyncio.Future[Reply]:
        """Send one invocation; the future ends with its result, at the deadline or with the end of the guest.

        One that is sent while another runs has its whole time from the end of that one. A Reply with TIMEOUT or EXITED says only
        that: the owner finds out how the guest ended. NOT_RUN: it had ended before, or (reusable) has not begun this one.
        """
        waiter: asyncio.Future[Reply] = self._loop.create_future()
        if self.ended or self._transport is None or self.outputs is None:
            waiter.set_result(Reply(Outcome.NOT_RUN))
            return waiter
        # Not a counter: what an earlier call left running must not guess it and answer for this one.
        number = getrandbits(32)
        identity, meta, body = call.id.encode(), call.meta, call.body
        size = INVOKE_FIXED + len(identity) + len(meta) + len(body)
        sent = Sent(number, size + HEADER.size, waiter, call, services)
        if self._waiter is None:
            self.outputs.forget()
            self._begin(sent, deadline)
        elif self._ahead.size + sent.size <= BYTES_MAX:
            self._ahead.append(sent)
        else:
            waiter.set_result(Reply(Outcome.NOT_RUN, reusable=True))
            return waiter
        fixed = INVOKE.pack(size, number, INVOKE_KIND, int(call.timeout_s * 1000), len(identity), len(meta))
        queued, self._queued = self._queued, b""
        self._transport.write(b"".join((queued, fixed, identity, meta, body)))
        return waiter

    def _begin(self, sent: Sent, deadline: float) -> None:
        """From now on this is the call that the guest works on."""
        self._number, self._waiter = sent.number, sent.waiter
        self._call, self._services = sent.call, sent.services
        self._log = None
        self._listening = True
        self._slow = False
        self._watchdog.add(self, deadline)
        self._started = perf_counter()

    @property
    def lingers(self) -> bool:
        """Whether the running call takes so long that none should stand behind it."""
        return (len(self._ahead) > 0 or not self._slow) and perf_counter() - self._started > SLOW_S

    def recall(self) -> None:
        """Take back the calls that the guest has not begun; they end as NOT_RUN, and reusable, for the guest is well."""
        self._slow = True
        if not self._ahead or self.guest_end is None or self._host_calls is not None:
            return  # with answers among what is unread nobody knows which bytes are calls: the guest gives those back itself
        try:
            with self.guest_end() as guest_end:
                taken = self._ahead.take_back(guest_end)
        except OSError:
            return  # it has just ended: whoever notices that sees to these calls too
        if taken is None:
            self._break()
            return
        for sent in taken:
            _settle(sent, Reply(Outcome.NOT_RUN, reusable=True))

    def expire(self) -> None:
        """The deadline of the running call is over."""
        self._finish(Reply(Outcome.TIMEOUT))

    def _finish(self, reply: Reply) -> None:
        self._watchdog.remove(self)
        waiter = self._waiter
        if waiter is None:
            return
        reply.duration_s = perf_counter() - self._started
        if self._host_calls is not None:
            self._host_calls.end()
        assert self.outputs is not None
        self.outputs.finish()
        self._listening = False
        log = self._log
        if log is not None:
            reply.logs, reply.log_times, reply.logs_truncated = log.lines, log.times, log.truncated
        self._waiter = None
        if not waiter.done():
            waiter.set_result(reply)
        if self._ahead:
            self._advance(reply.reusable)

    def _advance(self, reusable: bool) -> None:
        """The guest has ended a call with others behind it: it has the next one already, or will never begin any."""
        if reusable:
            sent = self._ahead.popleft()
            self._begin(sent, self._loop.time() + sent.call.limit_s)
            return
        self.ended = True
        for sent in self._ahead.clear():
            _settle(sent, Reply(Outcome.NOT_RUN))

    def collect(self, reply: Reply) -> None:
        """Add what the guest's processes wrote until they were dead. Call once, after their end and before ``close``."""
        assert self.outputs is not None
        self._log = log = CallLog(self._log_bytes - sum(len(line.text) + 1 for line in reply.logs))
        self._listening = True
        self.outputs.finish()
        self._listening = False
        reply.logs, reply.log_times = [*reply.logs, *log.lines], [*reply.log_times, *log.times]
        reply.logs_truncated = reply.logs_truncated or log.truncated

    def _take_output(self, level: str, raw: bytes) -> None:
        if self._listening:
            if self._log is None:
                self._log = CallLog(self._log_bytes)
            self._log.add(level, raw)

    # -- asyncio.Protocol ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no instances of it

    def data_received(self, data: bytes) -> None:
        if not self._buffer:
            size, number, kind = HEADER.unpack_from(data) if len(data) >= 9 else (0, 0, 0)
            if kind and len(data) == size + 9:
                self._frame(number, kind, data[9:])
                return
        self._buffer += data
        self._parse()

    def _parse(self) -> None:
        buffer = self._buffer
        start = 0
        while len(buffer) - start >= 9 and not self.ended:
            size, number, kind = HEADER.unpack_from(buffer, start)
            if size > (PAYLOAD_MAX if kind == HOST_CALL and self._services is not None else self._frame_max):
                self._break()
                return
            if len(buffer) - start - 9 < size:
                break
            self._frame(number, kind, bytes(buffer[start + 9 : start + 9 + size]))
            start += 9 + size
        del buffer[:start]
        if buffer and self._waiter is None and self.ready.done():
            self._break()  # nobody asked for what has begun here; the next call must not find it

    def _frame(self, number: int, kind: int, payload: bytes) -> None:
        if kind == RESULT:
            self._result(number, payload)
        elif kind == LOG:
            if payload and number == self._number:
                self._take_output(LEVELS[payload[0]] if payload[0] < len(LEVELS) else "info", payload[1:])
        elif kind == HOST_CALL and self._services is not None:
            self._host_call(number, payload, self._services)
        elif kind == READY and not self.ready.done():
            self.ready.set_result(_version(payload))
        else:
            self._break()

    def _host_call(self, number: int, payload: bytes, services: Services) -> None:
        if number != self._number or self._waiter is None or self._waiter.done():
            return  # what an ended call left running asks for something
        assert self._transport is not None and self._call is not None
        if self._host_calls is None:
            self._host_calls = HostCalls(self._transport)
        if not self._host_calls.take(self._call, services, number, payload):
            self._break()

    def _result(self, number: int, payload: bytes) -> None:
        if number != self._number and payload[:1] == bytes([NOT_BEGUN]) and self._give_back(number):
            return
        if len(payload) < 5 or number != self._number or self._waiter is None:
            self._break()
            return
        code = payload[0]
        meta_end = 5 + int.from_bytes(payload[1:5], "little")
        if code & 0x7F >= len(OUTCOMES) or meta_end > len(payload) or len(payload) - meta_end > self._result_bytes:
            self._break()
            return
        outcome = OUTCOMES[code & 0x7F]
        reusable = code < DO_NOT_REUSE and outcome is not Outcome.LOAD_ERROR
        body = payload[meta_end:]
        if outcome is Outcome.OK:
            self._finish(Reply(outcome, body, payload[5:meta_end], reusable=reusable))
        else:
            self._finish(Reply(outcome, message=body.decode("utf-8", "replace"), reusable=reusable))

    def _give_back(self, number: int) -> bool:
        """A guest that waits for an answer of the host's has found a call that was sent ahead, and does not keep it waiting."""
        sent = self._ahead.remove(number)
        if sent is not None:
            _settle(sent, Reply(Outcome.NOT_RUN, reusable=True))
        return sent is not None

    def _break(self) -> None:
        """The guest does not keep to the protocol: nothing it says counts any more."""
        self.ended = True
        self._buffer.clear()
        if self._transport is not None:
            self._transport.abort()

    def pause_writing(self) -> None:
        """A guest that does not read its answers is not listened to: it may not ask for more of them."""
        if self._host_calls is not None and self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None and not self.ended:
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        if not self.ready.done():
            self.ready.set_exception(StartFailed("the runtime ended before it was ready"))
            self.ready.exception()
        self._finish(Reply(Outcome.EXITED))

    def last_lines(self, logs: Sequence[LogLine], count: int = 20) -> list[str]:
        return [line.text for line in logs[-count:]]

    def close(self) -> None:
        """Close the socket and the pipes. Idempotent."""
        self.ended = True
        self._watchdog.remove(self)
        if self._transport is not None:
            self._transport.abort()
        if self.outputs is not None:
            self.outputs.close()


def _settle(sent: Sent, reply: Reply) -> None:
    if not sent.waiter.done():
        sent.waiter.set_result(reply)


def _version(payload: bytes) -> str:
    try:
        return str(msgspec.json.decode(payload, type=dict[str, str]).get("version", ""))
    except (msgspec.DecodeError, msgspec.ValidationError):
        return ""
