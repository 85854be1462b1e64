"""The guest's loop: take a call, run the program in a state of its own, answer."""

from __future__ import annotations

import gc
import json
import os
import struct
import time

from spinney_guest.channel import INVOKE, LOAD, LOST_CHANNEL, WARM, result_frame  # type: ignore[import-not-found]

from .host import Host
from .meta import Request, read_request, write_meta
from .states import State, compile_chunk, compile_library, find_tables

TYPE_CHECKING = False
if TYPE_CHECKING:  # the typing module would only cost start-up time here
    from typing import Any, NoReturn

    from spinney_guest.channel import Channel

ANSWERED, FAILED, NO_HANDLER, BAD_RESULT, TOO_LARGE = 0, 1, 3, 4, 5
"""Outcomes of docs/guest-channel.md. A program that does not compile fails as any other: the next call is no worse off."""

OUT_OF_MEMORY = 12  # exit code: what a run that filled its memory leaves behind is not worth keeping
NO_MEMORY = b"not enough memory"
MESSAGE_MAX = 65536
CHUNK = b"=<string>"
VERSION = "LuaJIT 2.1"
_INVOKE_HEADER = struct.Struct("<III")


class Guest:
    """Serves the calls of one channel, one at a time."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._host = Host(channel)
        self._library = self._program = self._fault = b""
        self._memory_bytes = self._result_bytes = 0
        self._state: State | None = None
        self._meta, self._request = b"", Request()

    def run(self) -> NoReturn:
        """Until the host closes the channel."""
        gc.collect()
        gc.freeze()
        self._channel.send_ready(VERSION)
        while True:
            self._serve(*self._channel.receive())

    def _serve(self, kind: int, number: int, payload: bytes) -> None:
        if kind == INVOKE and self._memory_bytes:
            self._perform(number, payload)
        elif kind == LOAD:
            self._load(json.loads(payload))
        elif kind == WARM:
            self._warm()
            self._channel.send_ready(VERSION)
        else:
            os._exit(LOST_CHANNEL)

    def _load(self, settings: dict[str, Any]) -> None:
        self._memory_bytes = settings["memory_mb"] << 20
        self._result_bytes = settings["result_bytes"]
        if "TZ" in settings["environment"]:
            os.environ["TZ"] = settings["environment"]["TZ"]
            time.tzset()
        with open(settings["file"], "rb") as file:
            source = file.read()
        self._program, self._fault = compile_chunk(source, CHUNK)
        self._library = compile_library(find_tables(source))

    def _perform(self, number: int, payload: bytes) -> None:
        _, id_size, meta_size = _INVOKE_HEADER.unpack_from(payload)
        meta_at = 12 + id_size
        body_at = meta_at + meta_size
        meta = payload[meta_at:body_at]
        if meta != self._meta:
            self._meta, self._request = meta, read_request(meta)
        if self._fault:
            self._channel.send(result_frame(number, FAILED, self._fault[:MESSAGE_MAX]))
            return
        state = self._state or self._make()
        self._state = None
        self._host.begin(number)
        try:
            answer = state.run(*self._request.arguments(payload[12:meta_at], payload[body_at:]))
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        self._channel.send(self._frame(number, *answer))
        self._state = self._make()  # while the caller is busy with the answer

    def _make(self) -> State:
        return State(self._library, self._program, self._memory_bytes, self._host.answer)

    def _frame(self, number: int, kind: int, *answer: Any) -> bytes:
        if kind == ANSWERED:
            status, headers, body, is_base64 = answer
            if len(body) > self._result_bytes:
                return result_frame(number, TOO_LARGE, b"")  # type: ignore[no-any-return]
            return result_frame(number, ANSWERED, body, write_meta(status, headers, is_base64))  # type: ignore[no-any-return]
        message: bytes = answer[0][:MESSAGE_MAX]
        if message.partition(b"\n")[0].endswith(NO_MEMORY):
            os._exit(OUT_OF_MEMORY)
        return result_frame(number, kind, message)  # type: ignore[no-any-return]

    def _warm(self) -> None:
        """Take the ways of a first call."""
        program, _ = compile_chunk(b"function handler() return {body = json.encode(json.decode('{}'))} end", CHUNK)
        State(compile_library(), program, 1 << 24, self._host.answer).run(*Request().arguments(b"", b""))
