"""One execution of a function, free of HTTP's shapes: run, judge, record; at once or later (contract 2.6, 3.6, 3.7, 4.2, 6.4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import time

import msgspec

from spinney.core.kernel import Kernel, Target, execution_time, new_execution_id
from spinney.dialects.nil.access import NAME
from spinney.dialects.nil.jsontext import check_output
from spinney.dialects.nil.wire import function_status
from spinney.errors import Busy, Invalid, Unavailable
from spinney.http.wire import NotJSON
from spinney.model import BuildStatus, Call, Execution, Outcome, Reply, Status

SYNC, ASYNC = "http", "async"
RESULT_MAX_BYTES = 16 << 20
"""An output has at most 10,000,000 bytes of UTF-16: half as many units, each of up to 3 bytes in UTF-8."""
LOG_MAX_BYTES = 1 << 19
"""More than the guest keeps of one execution, with what each entry costs beside its text."""
MESSAGE_MAX = 4096
GRACE_S = 1.0
"""The guest ends an execution in time by itself, with all that was logged; beyond that its sandbox is ended."""
WAITING_MAX = 1000
TOO_MANY = "Too many executions are waiting"
LOST = "Execution sandbox failed"

_DIED = (Outcome.EXITED, Outcome.OUT_OF_MEMORY)
_NOT_OURS = (Outcome.NOT_STARTED, Outcome.UNAVAILABLE)

Run = Callable[[Target, Call, str], Awaitable[Reply]]


class Invoke:
    """Executes functions; bound to a kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def check_ready(self, target: Target) -> None:
        """Raise Invalid unless the function has been compiled."""
        build = self._kernel.builds.get(target.id)
        if build is None or build.status is not BuildStatus.READY:
            id = target.function.id
            raise Invalid(f"Function {id} is not ready for execution. Current status: {function_status(build)}")

    async def run(self, target: Target, text: bytes) -> Execution:
        """Execute with the compact JSON text ``text`` and record it. Raises Busy when too many wait, Unavailable."""
        kernel = self._kernel
        if kernel.records.full():
            await kernel.records.room()
        return await self._run(target, make_call(new_execution_id(), text, target), SYNC, kernel.invoker.invoke)

    async def submit(self, target: Target, text: bytes) -> Execution:
        """Keep an execution that shall run later, also after a crash. Raises Busy when too many wait, Unavailable."""
        background = self._kernel.background
        if background.waiting(target.function.id) >= WAITING_MAX:
            raise Busy(TOO_MANY)
        execution = self._execution(target, new_execution_id(), ASYNC, Status.QUEUED, text.decode())
        await background.submit(execution)
        return execution

    async def run_queued(self, target: Target, execution: Execution) -> None:
        """Run what ``submit`` kept, as the function was then. Raises Unavailable, NotFound."""
        kernel = self._kernel
        then = await kernel.functions.past(target, execution.version_id)
        call = make_call(execution.id, (execution.input or "{}").encode(), then)
        await self._run(then, call, ASYNC, kernel.invoker.invoke_patiently)

    async def _run(self, target: Target, call: Call, trigger: str, run: Run) -> Execution:
        reply = await run(target, call, trigger)
        if reply.outcome in _DIED:  # perhaps not by its own doing, and it has no effects outside
            reply = await run(target, call, trigger)
        records = self._kernel.records
        if trigger == SYNC and (reply.outcome is Outcome.BUSY or reply.outcome in _NOT_OURS):
            records.abandon(call.id)
            raise Busy(TOO_MANY) if reply.outcome is Outcome.BUSY else Unavailable(reply.message)
        running = records.running.get(call.id)
        execution = self._execution(target, call.id, trigger, Status.SUCCESS, call.body.decode())
        execution.finished_at = time()
        execution.begun_at = running.started_at if running else execution.finished_at
        judge(reply, execution, call.timeout_s)
        records.end(execution)
        self._kernel.metrics.observe(NAME, reply.outcome, reply.duration_s)
        return execution

    def _execution(self, target: Target, id: str, trigger: str, status: Status, text: str) -> Execution:
        return Execution(
            id=id,
            function_id=target.function.id,
            version_id=target.id,
            account_id=target.function.account_id,
            trigger=trigger,
            status=status,
            started_at=execution_time(id),
            input=text,
            tier=self._kernel.records.tier,
        )


def begin_record(call: Call, execution: Execution) -> None:
    """An execution stands in histories where it was asked for, with its input."""
    execution.started_at, execution.begun_at = execution_time(call.id), execution.started_at
    execution.input = call.body.decode()


def make_call(id: str, text: bytes, target: Target) -> Call:
    return Call(id, text, target.version.timeout_s, grace_s=GRACE_S)


def judge(reply: Reply, execution: Execution, timeout_s: float) -> None:
    """Complete an execution with what came of it (contract 3.5, 3.7, 6.1)."""
    execution.duration_ms = int(reply.duration_s * 1000)
    if reply.logs:
        execution.logs = msgspec.json.encode([line.text for line in reply.logs]).decode()
    if reply.outcome is Outcome.OK:
        try:
            check_output(reply.body)
        except NotJSON:
            reply.outcome = Outcome.EXITED
        else:
            execution.output = reply.body.decode()
            return
    execution.status = Status.TIMEOUT if reply.outcome is Outcome.TIMEOUT else Status.ERROR
    execution.error = error_message(reply, timeout_s)


def error_message(reply: Reply, timeout_s: float) -> str:
    """Why an execution failed. What the code did wrong the guest has put into words (contract 3.7)."""
    match reply.outcome:
        case Outcome.ERROR:
            return reply.message[:MESSAGE_MAX] or LOST
        case Outcome.TIMEOUT:
            return f"Execution timed out after {timeout_s:g} seconds"
    return LOST
