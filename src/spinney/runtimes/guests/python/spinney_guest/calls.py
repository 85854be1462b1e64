"""The guest's loop: take a call, run the handler, answer."""

from __future__ import annotations

import gc
import json
import os
import platform
import re
import sys
import threading
import time
import traceback
from time import gmtime, strftime
from time import monotonic as now

from . import logs
from .channel import INVOKE, LOAD, LOST_CHANNEL, WARM, Channel, split_invoke
from .loader import LoadFailure, load
from .loop import Loop
from .owners import follow_threads, owner
from .values import FAILED, UNUSABLE, decode, describe, encode

TYPE_CHECKING = False
if TYPE_CHECKING:  # the typing module would only cost start-up time here
    from typing import Any, NoReturn

    from .loader import Handler


class Call:
    """One invocation."""

    __slots__ = ("id", "log_bytes_left", "number", "started_at", "timeout_ms")

    def __init__(self, number: int, id: str, timeout_ms: int, log_bytes: int) -> None:
        self.number = number
        self.id = id
        self.timeout_ms = timeout_ms
        self.log_bytes_left = log_bytes
        self.started_at = now()


class Context:
    """The handler's second argument: Impuls contract 3.4."""

    def __init__(self, settings: dict[str, Any], call: Call) -> None:
        self.function_name = settings["function"]
        self.function_version = "$LATEST"
        self.memory_limit_in_mb = settings["memory_mb"]
        self.aws_request_id = call.id
        self.log_group_name = settings["log_group"]
        self.log_stream_name = f"{strftime('%Y-%m-%d', gmtime())}/{call.id}"
        self.invoked_function_arn = settings["arn"]
        self._call = call

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the invocation's timeout; 0 when it is over."""
        return max(0, int(self._call.timeout_ms - (now() - self._call.started_at) * 1000))


class Guest:
    """Serves the calls of one channel, one at a time."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._lock = threading.RLock()
        self._running: Call | None = None
        self._unfit = False
        self._settings: dict[str, Any] = {}
        self._export_path = ""
        self._handler: Handler | LoadFailure | None = None
        self._loop = Loop(self._fail)
        self._fixed_environment = dict(os.environ)
        self._environ = os.environ
        self._raw_environment: dict[bytes, bytes] = {}

    def run(self) -> NoReturn:
        """Until the host closes the channel."""
        follow_threads()
        logs.capture(self._log, lambda: self._channel.is_open)
        threading.excepthook = self._fail_thread
        self._loop.open()
        sys.path.append(os.getcwd())
        gc.collect()
        gc.freeze()
        self._channel.send_ready(platform.python_version())
        while not self._unfit:
            self._serve(*self._channel.receive())
        os._exit(0)  # the host wants no more of this process; a call that stands behind the last one is for another

    def _serve(self, kind: int, number: int, payload: bytes) -> None:
        if kind == LOAD:
            self._configure(json.loads(payload))
        elif kind == INVOKE and self._settings:
            timeout_ms, id, body = split_invoke(payload)
            self._running = call = Call(number, id, timeout_ms, self._settings["log_bytes"])
            self._perform(call, body)
        elif kind == WARM:  # a first call is no slower here than a later one
            self._channel.send_ready(platform.python_version())
        else:
            os._exit(LOST_CHANNEL)

    def _configure(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._export_path = re.sub(r"^(?s:.*/)?[^/.]*\.", "", settings["handler"])
        os.environ.clear()
        os.environ.update(self._fixed_environment)
        os.environ.update(settings["environment"])
        time.tzset()
        self._raw_environment = dict(os.environ._data)  # type: ignore[attr-defined]

    def _restore_environment(self) -> None:
        os.environ = self._environ  # noqa: B003, it is another object that user code may have put there
        if os.environ._data != self._raw_environment:  # type: ignore[attr-defined]
            self._configure(self._settings)

    def _perform(self, call: Call, body: bytes) -> None:
        owner.set(call)
        self._restore_environment()
        try:
            if self._handler is None:
                self._handler = load(os.getcwd(), self._settings["file"], self._export_path)
            if isinstance(self._handler, LoadFailure):
                self._answer(call, self._handler.outcome, self._handler.message)
                return
            value = self._handler(decode(body.decode("utf-8", "surrogatepass")), Context(self._settings, call))
            if hasattr(value, "__await__"):
                value = self._loop.run(value)
            outcome, text = encode(value, self._settings["result_bytes"])
        except SystemExit:
            raise
        except MemoryError:
            _die_of_memory()
        except BaseException as error:
            outcome, text = FAILED, describe(error)
        self._answer(call, outcome, text)

    def _answer(self, call: Call, outcome: int, body: bytes) -> None:
        """Answer a call, once."""
        with self._lock:
            if self._running is not call or not self._channel.is_open:
                return
            self._running = None
            self._unfit = outcome >= UNUSABLE
            self._channel.send_result(call.number, outcome, body)

    def _fail(self, call: Call | None, error: BaseException) -> None:
        """An exception that nobody caught: the running call's failure, unless it was left over from an earlier one."""
        if isinstance(error, MemoryError):
            _die_of_memory(error)
        running = self._running
        if running is not None and (call is None or call is running):
            self._answer(running, FAILED | UNUSABLE, describe(error))

    def _fail_thread(self, args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
            self._fail(owner.get(), args.exc_value)

    def _log(self, level: int, text: str) -> None:
        """Send one log entry, when it was written on behalf of the running call."""
        with self._lock:
            call = self._running
            if call is None or owner.get() is not call or call.log_bytes_left < 0:
                return
            # One more than the host keeps, so that it knows that there was more.
            kept = text[: call.log_bytes_left + 1].encode("utf-8", "backslashreplace")
            call.log_bytes_left -= len(kept) + 1
            self._channel.send_log(call.number, level, kept)


def _die_of_memory(error: BaseException | None = None) -> NoReturn:
    """End as any Python program does that runs out of memory; the host reads it off the last line and the exit code."""
    traceback.print_exception(error or sys.exc_info()[1])
    os._exit(1)
