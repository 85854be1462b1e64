"""What a guest asks of the host while it runs a call (docs/guest-channel.md): read, handed to the call's services, answered.

Whatever arrives here was written by hostile code: it may ask too much, too often, nonsense, and never read an answer.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable

import msgspec
import structlog

from spinney.errors import Error
from spinney.model import Call
from spinney.ports import Answer, Services

log = structlog.get_logger("spinney.hostcalls")

HOST_CALL, HOST_REPLY = 6, 7
FRAME = struct.Struct("<IIBII")
PREFIX = struct.Struct("<II")

JSON_MAX = 1 << 20
DATA_MAX = 10 << 20
PAYLOAD_MAX = PREFIX.size + JSON_MAX + DATA_MAX
OPEN_MAX = 16
"""Requests of one call that may wait for their answers."""
OPEN_BYTES_MAX = 32 << 20
"""What those requests may weigh together, and what answers that a guest has not read may."""

INTERNAL = "internal error"
TOO_LARGE = "the request is too large"
TOO_MANY = "too many requests at the same time"
UNREAD = "the answers before this one have not been read"


class _Request(msgspec.Struct):
    service: str
    method: str
    args: msgspec.Raw = msgspec.Raw(b"{}")


_decode = msgspec.json.Decoder(_Request).decode
_encode = msgspec.json.Encoder().encode


class HostCalls:
    """The requests of one guest. ``take`` and ``end`` are called by its channel."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._open: set[asyncio.Task[None]] = set()
        self._open_bytes = 0

    def take(self, call: Call, services: Services, number: int, payload: bytes) -> bool:
        """Answer a request of the call that runs, now or when its service is done; False when it is no request at all."""
        if len(payload) < PREFIX.size:
            return False
        request, json_bytes = PREFIX.unpack_from(payload)
        data_at = PREFIX.size + json_bytes
        if data_at > len(payload):
            return False
        if json_bytes > JSON_MAX or len(payload) - data_at > DATA_MAX:
            self._refuse(number, request, TOO_LARGE)
            return True
        if len(self._open) >= OPEN_MAX or self._open_bytes + len(payload) > OPEN_BYTES_MAX:
            self._refuse(number, request, TOO_MANY)
            return True
        if self._transport.get_write_buffer_size() > OPEN_BYTES_MAX:
            self._refuse(number, request, UNREAD)
            return True
        try:
            asked = _decode(payload[PREFIX.size : data_at])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return False
        try:
            answer = services.answer(call, asked.service, asked.method, bytes(asked.args), payload[data_at:])
        except Error as error:
            self._refuse(number, request, error.message)
        except Exception:
            log.exception("a service failed", service=asked.service[:20], method=asked.method[:20])
            self._refuse(number, request, INTERNAL)
        else:
            if isinstance(answer, Answer):
                self._reply(number, request, answer)
            else:
                self._wait(number, request, answer, len(payload))
        return True

    def _wait(self, number: int, request: int, answer: Awaitable[Answer], size: int) -> None:
        task = asyncio.ensure_future(self._answer_later(number, request, answer))
        self._open.add(task)
        self._open_bytes += size

        def forget(_: object) -> None:
            self._open.discard(task)
            self._open_bytes -= size

        task.add_done_callback(forget)

    async def _answer_later(self, number: int, request: int, coming: Awaitable[Answer]) -> None:
        try:
            answer = await coming
        except Error as error:
            self._refuse(number, request, error.message)
        except Exception:
            log.exception("a service failed")
            self._refuse(number, request, INTERNAL)
        else:
            self._reply(number, request, answer)

    def _reply(self, number: int, request: int, answer: Answer) -> None:
        self._send(number, request, _encode({"ok": answer.value}), answer.data)

    def _refuse(self, number: int, request: int, message: str) -> None:
        self._send(number, request, _encode({"error": message}), b"")

    def _send(self, number: int, request: int, json: bytes, data: bytes) -> None:
        if self._transport.get_write_buffer_size() + len(json) + len(data) > OPEN_BYTES_MAX:
            json, data = _encode({"error": UNREAD}), b""
        head = FRAME.pack(PREFIX.size + len(json) + len(data), number, HOST_REPLY, request, len(json))
        self._transport.write(b"".join((head, json, data)))

    def end(self) -> None:
        """The call is over: nobody waits for what its requests still do."""
        for task in list(self._open):
            task.cancel()
