"""One run of a function, free of HTTP's ways: run, judge, record (contract 3.2, 3.3, 3.11)."""

from __future__ import annotations

import asyncio
from time import time
from typing import Any, NamedTuple

import msgspec

from spinney.core.kernel import Kernel, Target, cut_text, new_short_id
from spinney.dialects.lunar.access import NAME
from spinney.dialects.lunar.answers import FunctionFailed, Head, LostSandbox, failure, read_reply, response_json
from spinney.dialects.lunar.events import SLOW_BYTES, event_json
from spinney.dialects.lunar.explain import explain
from spinney.dialects.lunar.masking import mask_text
from spinney.errors import Busy, Error
from spinney.model import Call, Execution, Outcome, Reply, Status

HTTP, CRON = "http", "cron"
BUSY = "Server is busy"
SHUTDOWN = "Execution interrupted by server shutdown"
LOST = "Sandbox terminated"
ROWS_MAX = 10001
"""Log rows of a run, and the one that says that there were more."""
MESSAGE_MAX_BYTES = 65536
ROW_MAX_BYTES = MESSAGE_MAX_BYTES + 100

_encode = msgspec.json.Encoder().encode


class Run(NamedTuple):
    """What came of a run, once it is recorded; without ``head`` it has failed."""

    execution: Execution
    head: Head | None = None
    body: bytes = b""


class Invoke:
    """Runs functions; bound to a kernel."""

    def __init__(self, kernel: Kernel, timeout_s: int) -> None:
        self._kernel = kernel
        self._timeout_s = timeout_s
        self._events: dict[str, str] = {}

    def begin_record(self, call: Call, execution: Execution) -> None:
        """A run stands in the history with its event before its code begins."""
        execution.input = self._events.get(call.id)

    async def run(self, target: Target, meta: bytes, body: bytes, trigger: str) -> Run:
        """Run ``target`` once and record it. Raises Busy when there is no room for who asks by HTTP, Unavailable."""
        kernel = self._kernel
        if kernel.records.full():
            await kernel.records.room()
        event = await event_json(meta, body)
        call = Call(new_short_id(), body, self._timeout_s, meta)
        invoke = kernel.invoker.invoke if trigger == HTTP else kernel.invoker.invoke_patiently
        started = time()
        self._events[call.id] = event
        try:
            reply = await invoke(target, call, trigger)
        except asyncio.CancelledError:  # only the end of the server cancels a run
            reply = Reply(Outcome.UNAVAILABLE, message=SHUTDOWN, duration_s=time() - started)
        finally:
            del self._events[call.id]
        running = kernel.records.running.get(call.id)
        if reply.outcome is Outcome.BUSY and running is None:
            raise Busy(BUSY)
        execution = self._execution(target, call.id, trigger, running.started_at if running else started, reply)
        execution.input = event
        run = await self._judge(target, reply, execution)
        execution.finished_at = time()
        kernel.records.end(execution)
        kernel.metrics.observe(NAME, reply.outcome, reply.duration_s)
        return run

    def _execution(self, target: Target, id: str, trigger: str, started: float, reply: Reply) -> Execution:
        return Execution(
            id=id,
            function_id=target.function.id,
            version_id=target.id,
            account_id=target.function.account_id,
            trigger=trigger,
            status=Status.SUCCESS,
            started_at=started,
            duration_ms=int(reply.duration_s * 1000),
            tier=self._kernel.records.tier,
        )

    async def _judge(self, target: Target, reply: Reply, execution: Execution) -> Run:
        """Complete an execution with what came of it."""
        if reply.logs:
            small = len(reply.logs) <= 100 and sum(len(line.text) for line in reply.logs) <= SLOW_BYTES
            execution.logs = format_logs(reply) if small else await asyncio.to_thread(format_logs, reply)
        fault = failure(reply)
        if reply.outcome is Outcome.OK:
            try:
                return await self._accept(target, reply, execution)
            except FunctionFailed as failed:
                fault = str(failed)
            except LostSandbox:
                reply.outcome = Outcome.EXITED
        message = self._message(reply) if fault is None else explain(fault, await self._source(target))
        execution.status = Status.TIMEOUT if reply.outcome is Outcome.TIMEOUT else Status.ERROR
        execution.error = cut_text(mask_text(message), MESSAGE_MAX_BYTES)[0]
        execution.status_code = 500
        return Run(execution)

    async def _accept(self, target: Target, reply: Reply, execution: Execution) -> Run:
        head, body = read_reply(reply)
        execution.status_code = head.status
        if head.status >= 400:
            execution.status = Status.ERROR
        if target.function.settings["save_response"]:
            if len(body) <= SLOW_BYTES:
                execution.output = response_json(head, body)
            else:
                execution.output = await asyncio.to_thread(response_json, head, body)
        return Run(execution, head, body)

    def _message(self, reply: Reply) -> str:
        """Why a run failed whose code is not to blame, or that had no chance to say so."""
        match reply.outcome:
            case Outcome.TIMEOUT:
                return f"Execution timed out after {self._timeout_s}s"
            case Outcome.OUT_OF_MEMORY:
                return "Memory limit exceeded: a run may use 128 MB"
            case Outcome.EXITED | Outcome.BUSY:
                return LOST
            case Outcome.UNAVAILABLE if reply.message == SHUTDOWN:
                return SHUTDOWN
            case _:
                return f"{LOST}: {reply.message}"

    async def _source(self, target: Target) -> str:
        try:
            return (await self._kernel.functions.version(target)).source
        except Error:  # gone meanwhile
            return ""


def format_logs(reply: Reply) -> str:
    """The rows of a run's log, masked: level, message and time of each."""
    times: Any = reply.log_times or [0.0] * len(reply.logs)
    rows = [
        (line.level, cut_text(mask_text(line.text), ROW_MAX_BYTES)[0], int(at))
        for line, at in zip(reply.logs[:ROWS_MAX], times[:ROWS_MAX], strict=True)
    ]
    return _encode(rows).decode()
