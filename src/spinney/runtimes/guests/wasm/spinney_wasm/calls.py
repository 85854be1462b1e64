"""The guest's loop: take a call, answer it. One guest runs a function, another kind compiles modules and runs none."""

from __future__ import annotations

import gc
import json
import os

from spinney_guest.channel import INVOKE, LOAD, LOST_CHANNEL, WARM, result_frame, split_invoke  # type: ignore[import-not-found]

from .capi import Library, WasmtimeError
from .compiler import compile_module
from .deadline import Deadline
from .engine import make_engine
from .function import Function
from .instructions import Refused
from .machine import Machine

TYPE_CHECKING = False
if TYPE_CHECKING:  # the typing module would only cost start-up time here
    from typing import Any, NoReturn

    from spinney_guest.channel import Channel

OK, FAILED, NOT_LOADED = range(3)

EMPTY = bytes.fromhex("0061736d01000000 0503010001 070a01066d656d6f72790200")
"""A module that exports a memory."""


class Guest:
    """Serves the calls of one channel, one at a time."""

    def __init__(self, channel: Channel, library: str, version: str) -> None:
        self._channel = channel
        self._version = version
        self._library = Library(library)
        self._engine = make_engine(self._library)

    def run(self) -> NoReturn:
        """Until the host closes the channel."""
        gc.collect()
        gc.freeze()
        self._channel.send_ready(self._version)
        while True:
            self._serve(*self._channel.receive())

    def _serve(self, kind: int, number: int, payload: bytes) -> None:
        if kind == INVOKE:
            timeout_ms, _, body = split_invoke(payload)
            self._channel.send(self._answer(number, body, timeout_ms / 1000))
        elif kind == LOAD:
            self._load(json.loads(payload))
        elif kind == WARM:
            self._warm()
            self._channel.send_ready(self._version)
        else:
            os._exit(LOST_CHANNEL)

    def _answer(self, number: int, body: bytes, timeout_s: float) -> bytes:
        """The frames that answer a call."""
        raise NotImplementedError

    def _load(self, settings: dict[str, Any]) -> None:
        os._exit(LOST_CHANNEL)

    def _warm(self) -> None:
        """Take the ways of a first call."""


class Runner(Guest):
    """Runs one function."""

    def __init__(self, channel: Channel, library: str, version: str) -> None:
        super().__init__(channel, library, version)
        self._deadline = Deadline(self._library, self._engine)
        self._function: Function | WasmtimeError | Refused | None = None

    def _warm(self) -> None:
        machine = Machine(self._library, self._engine, self._deadline, 1)
        machine.link(self._library.compile(self._engine, EMPTY))
        machine.run(bytes, b"", 1.0)

    def _load(self, settings: dict[str, Any]) -> None:
        try:
            self._function = Function(self._library, self._engine, self._deadline, settings)
        except (WasmtimeError, Refused) as error:
            self._function = error

    def _answer(self, number: int, body: bytes, timeout_s: float) -> bytes:
        function = self._function
        if isinstance(function, Function):
            return function.answer(self._channel, number, body, timeout_s)
        if function is None:
            os._exit(LOST_CHANNEL)
        return result_frame(number, NOT_LOADED, str(function).encode("utf-8", "replace"))  # type: ignore[no-any-return]


class Compiler(Guest):
    """Compiles modules; runs none of their code."""

    def _answer(self, number: int, body: bytes, timeout_s: float) -> bytes:
        facts, compiled = compile_module(self._library, self._engine, body)
        return result_frame(number, OK, compiled, json.dumps(facts).encode())  # type: ignore[no-any-return]
