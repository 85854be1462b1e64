"""The end of a call's time: a POSIX timer that raises the engine's epoch; until then nobody has anything to do."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_int, c_long, c_uint64, c_void_p, cast
from time import monotonic

from .capi import EpochCallback

TYPE_CHECKING = False
if TYPE_CHECKING:  # only for annotations: imports cost start-up time here
    from typing import Any

    from .capi import Library

CLOCK_MONOTONIC = 1
SIGEV_THREAD = 2


class _Event(ctypes.Structure):
    """struct sigevent, as SIGEV_THREAD uses it."""

    _fields_ = (
        ("value", c_void_p),
        ("signal", c_int),
        ("notify", c_int),
        ("function", c_void_p),
        ("attributes", c_void_p),
        ("rest", c_uint64 * 4),
    )


class _Times(ctypes.Structure):
    """struct itimerspec."""

    _fields_ = (("interval_s", c_long), ("interval_ns", c_long), ("s", c_long), ("ns", c_long))


class Deadline:
    """Ends whatever runs in a store when its time is over; ``passed`` says so afterwards.

    The C library calls the engine's own function in a thread that it makes then: neither the interpreter nor its lock takes part.
    """

    def __init__(self, library: Library, engine: int) -> None:
        system: Any = ctypes.CDLL("librt.so.1")
        self._library = library
        self._set = system.timer_settime
        self._set.argtypes = (c_void_p, c_int, c_void_p, c_void_p)
        self._callback = EpochCallback(self._tick)
        self._callback_address = cast(self._callback, c_void_p).value
        self._timer = c_void_p()
        self._times = _Times()
        self._off = byref(_Times())
        raise_epoch = cast(library.wasmtime_engine_increment_epoch, c_void_p)
        event = _Event(value=engine, notify=SIGEV_THREAD, function=raise_epoch)
        if system.timer_create(c_int(CLOCK_MONOTONIC), byref(event), byref(self._timer)):
            raise OSError("timer_create")
        self._at = 0.0
        self.passed = False

    def start(self, store: int, context: int, seconds: float) -> None:
        """The code in a store may run for so long from now."""
        self.passed = False
        self._at = monotonic() + seconds
        self._times.s, self._times.ns = int(seconds), int(seconds % 1 * 1e9) + 1
        self._library.wasmtime_store_epoch_deadline_callback(store, self._callback_address, None, None)
        self._library.wasmtime_context_set_epoch_deadline(context, 1)
        self._set(self._timer, 0, byref(self._times), None)

    def stop(self) -> None:
        self._set(self._timer, 0, self._off, None)

    @property
    def left_s(self) -> float:
        """Seconds until the end."""
        return max(0.0, self._at - monotonic())

    def _tick(self, _context: int, _data: int, ticks: Any, _kind: int) -> int:
        """The epoch has been raised: for this call, or late for the one before."""
        if monotonic() < self._at:
            ticks[0] = 1
            return 0
        self.passed = True
        error: int = self._library.wasmtime_error_new(b"time is over")
        return error
