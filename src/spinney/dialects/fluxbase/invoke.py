"""One run of a function, free of HTTP's shapes: invoke, judge what came of it, record it (contract 2.6, 3.4, 3.5, 3.7, 4.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import time

import msgspec

from spinney.core.kernel import Kernel, Target, cut_text, new_execution_id
from spinney.dialects.fluxbase.guest import MalformedReply, reply_head
from spinney.http.wire import Headers
from spinney.model import Call, Execution, LogLine, Outcome, Reply, Status

NAME = "fluxbase"
HTTP, CRON = "http", "cron"
RESULT_MAX_BYTES = 10485760
KEPT_MAX_BYTES = 262144
TRUNCATED = f"[OUTPUT TRUNCATED: exceeded {KEPT_MAX_BYTES} bytes limit]"
STOPPING = "The server is shutting down"
BODILESS = frozenset({204, 205, 304})

FAILED = (500, "Function execution failed")
TIMED_OUT = (408, "Function execution timeout")
UNAVAILABLE = (503, "Function runtime unavailable")
_KINDS = {Outcome.TIMEOUT: TIMED_OUT} | dict.fromkeys(
    (Outcome.NOT_STARTED, Outcome.NOT_RUN, Outcome.BUSY, Outcome.UNAVAILABLE), UNAVAILABLE
)


class Failure(msgspec.Struct):
    """A run without a reply of its own: ``error`` is the kind, ``message`` the reason."""

    error: str
    message: str


class Answer(msgspec.Struct):
    """What came of a run, once it is recorded: the function's own reply, or a ``failure`` with its status.

    ``headers`` are those that may be sent as they are; the length and the execution's id are not among them.
    """

    execution: Execution
    status: int
    headers: Headers = []
    body: bytes = b""
    failure: Failure | None = None


class Invoke:
    """Runs functions; bound to a kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    async def run(self, target: Target, meta: bytes, body: bytes, trigger: str) -> Answer:
        """Run ``target`` once and record it. ``meta`` is a ``guest.RequestMeta`` as JSON; ``trigger`` is HTTP or CRON.

        Who asks by HTTP is told when there is no room; what is due by the clock waits for it. Raises Unavailable when the record
        cannot be kept.
        """
        kernel = self._kernel
        if kernel.records.full():
            await kernel.records.room()
        call = Call(new_execution_id(), body, target.version.timeout_s, meta)
        started = time()
        invoke = kernel.invoker.invoke if trigger == HTTP else kernel.invoker.invoke_patiently
        try:
            reply = await invoke(target, call, trigger)
        except asyncio.CancelledError:  # only the end of the server cancels a run; who waits for it still gets an answer
            if trigger != HTTP:
                raise
            reply = Reply(Outcome.UNAVAILABLE, message=STOPPING)
        answer = judge(target, reply, self._execution(target, call.id, trigger, started, reply))
        kernel.records.end(answer.execution)
        kernel.metrics.observe(NAME, reply.outcome, reply.duration_s)
        return answer

    def _execution(self, target: Target, id: str, trigger: str, started: float, reply: Reply) -> Execution:
        return Execution(
            id=id,
            function_id=target.function.id,
            version_id=target.version.id,
            account_id=target.function.account_id,
            trigger=trigger,
            status=Status.SUCCESS,
            started_at=started,
            finished_at=time(),
            duration_ms=int(reply.duration_s * 1000),
            logs=format_logs(reply.logs, reply.logs_truncated) if reply.logs or reply.logs_truncated else "",
            tier=self._kernel.records.tier,
        )


def judge(target: Target, reply: Reply, execution: Execution) -> Answer:
    """Turn a reply into the answer and complete ``execution`` with it."""
    if reply.outcome is Outcome.OK:
        try:
            status, headers = reply_head(reply.meta)
        except MalformedReply:
            reply.outcome = Outcome.EXITED
        else:
            body = b"" if status in BODILESS else reply.body
            execution.status_code = status
            execution.output = _result(body) if body else None
            return Answer(execution, status, headers, body)
    status, error = _KINDS.get(reply.outcome, FAILED)
    failure = Failure(error, _kept(error_message(target, reply)))
    execution.status = Status.TIMEOUT if reply.outcome is Outcome.TIMEOUT else Status.ERROR
    execution.status_code = status
    execution.error = failure.message
    return Answer(execution, status, failure=failure)


def error_message(target: Target, reply: Reply) -> str:
    """Why a run failed (contract 3.7)."""
    match reply.outcome:
        case Outcome.TIMEOUT:
            return f"Function exceeded timeout limit of {int(target.version.timeout_s)} seconds"
        case Outcome.OUT_OF_MEMORY:
            return f"Error: Function exceeded memory limit of {target.version.memory_mb} MB"
        case Outcome.EXITED:
            return "Error: Function process was terminated"
        case Outcome.NO_HANDLER:
            return "Error: No handler function found. Export a 'handler', 'default', or 'main' function."
        case Outcome.RESULT_TOO_LARGE:
            return f"RangeError: Function response too large (max {RESULT_MAX_BYTES} bytes)"
        case _:
            return reply.message


def format_logs(lines: Sequence[LogLine], truncated: bool) -> str:
    """All entries of a run as one text. The guest has written ``console.<method>: `` in front of each (contract 3.5)."""
    return _kept("\n".join([line.text for line in lines]), truncated)


def _result(body: bytes) -> str:
    # beyond what is kept nothing is decoded; the few bytes more complete the last character
    return _kept(body[: KEPT_MAX_BYTES + 4].decode("utf-8", "replace"))


def _kept(text: str, missing: bool = False) -> str:
    cut, shorter = cut_text(text, KEPT_MAX_BYTES)
    return f"{cut}\n{TRUNCATED}" if shorter or missing else cut
