"""The hot route of Impuls: POST /api/v1/functions/{name}/invoke (contract 2.7, 6.2). No framework."""

from __future__ import annotations

import contextlib
from time import time

from spinney.core.kernel import Caller, Kernel, Target, new_execution_id
from spinney.dialects.impuls.access import identify
from spinney.dialects.impuls.wire import Envelope, envelope, refusal, to_json
from spinney.errors import Denied, Unavailable
from spinney.http.bearer import CHALLENGE, WrongToken, find_caller_late
from spinney.http.hot import HotHeaders, HotRequest, HotResponse
from spinney.http.wire import JSON_TYPE, BodyTooLarge, NotJSON, check_json, query_flag
from spinney.model import Call, Execution, Reply, Status

NAME = "impuls"
BODY_MAX_BYTES = 6291456
BODY_DRAIN_BYTES = 33554432
EMPTY_EVENT = b"{}"


class Invoke:
    """The handler, bound to a kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    async def __call__(self, request: HotRequest) -> HotResponse:
        kernel = self._kernel
        try:
            caller = identify(kernel, request.headers)
        except Denied as denied:
            late = await identify_late(kernel, denied, request.client)
            if isinstance(late, HotResponse):
                return late
            caller = late
        name = request.parameters[0]
        target = kernel.index.get(NAME, caller.account_id, name)
        if target is None:
            return refusal(404, f"function '{name}' not found")
        event = await read_body(request)
        if isinstance(event, HotResponse):
            return event
        try:
            if event and not event.isspace():
                check_json(event)
            else:
                event = EMPTY_EVENT
            if request.query and query_flag(request.query, "async"):
                return await self._later(target, event)
            if kernel.records.full():
                await kernel.records.room()
            return _respond(await self.run(target, Call(new_execution_id(), event, target.version.timeout_s), "http"))
        except NotJSON as error:
            return refusal(400, f"Invalid request body: {error}")
        except Unavailable as error:
            return refusal(500, error.message)

    async def run(self, target: Target, call: Call, trigger: str) -> Envelope:
        """Invoke and record. Raises Unavailable when the record cannot be kept."""
        started = time()
        reply = await self._kernel.invoker.invoke(target, call, trigger)
        return self._record(target, call, trigger, started, reply)

    def _record(self, target: Target, call: Call, trigger: str, started: float, reply: Reply) -> Envelope:
        kernel = self._kernel
        execution = self._execution(target, call.id, trigger, started)
        answer = envelope(target, reply, execution)
        kernel.records.end(execution)
        kernel.metrics.observe(NAME, reply.outcome, reply.duration_s)
        return answer

    def _execution(self, target: Target, id: str, trigger: str, started: float) -> Execution:
        return Execution(
            id=id,
            function_id=target.function.id,
            version_id=target.version.id,
            account_id=target.function.account_id,
            trigger=trigger,
            status=Status.ERROR,
            started_at=started,
            finished_at=time(),
            tier=self._kernel.records.tier,
        )

    async def _later(self, target: Target, event: bytes) -> HotResponse:
        execution = self._execution(target, new_execution_id(), "async", time())
        execution.status, execution.finished_at, execution.input = Status.QUEUED, None, event.decode()
        await self._kernel.background.submit(execution)
        return HotResponse(202, [JSON_TYPE], to_json({"execution_id": execution.id}))

    async def run_queued(self, target: Target, execution: Execution) -> None:
        """Run what ``_later`` kept."""
        call = Call(execution.id, (execution.input or "{}").encode(), target.version.timeout_s)
        reply = await self._kernel.invoker.invoke_patiently(target, call, execution.trigger)
        self._record(target, call, execution.trigger, time() - reply.duration_s, reply)


async def identify_late(kernel: Kernel, denied: Denied, client: str) -> Caller | HotResponse:
    """The caller after all, when the token has just been made; else 401, slowly for an address that keeps guessing."""
    if isinstance(denied, WrongToken):
        with contextlib.suppress(WrongToken):
            return await find_caller_late(kernel, denied, client)
    return refusal(401, denied.message, CHALLENGE)


async def read_body(request: HotRequest) -> bytes | HotResponse:
    """The body within its limits, or what refuses it (415, 413)."""
    refused = refused_encoding(request.headers)
    if refused is not None:
        return refused
    try:
        return await request.body(BODY_MAX_BYTES, BODY_DRAIN_BYTES)
    except BodyTooLarge as error:
        return refusal(413, f"request body too large (max {BODY_MAX_BYTES} bytes)", *error.headers)


def refused_encoding(headers: HotHeaders) -> HotResponse | None:
    """415 for a body that would have to be decoded first."""
    if headers.encoding and headers.encoding.lower() != b"identity":
        return refusal(415, f"unsupported content encoding '{headers.encoding.decode('latin-1')}'")
    return None


def _respond(answer: Envelope) -> HotResponse:
    headers = [
        JSON_TYPE,
        (b"x-impuls-duration", b"%d" % answer.duration_ms),
        (b"x-execution-id", answer.execution.id.encode()),
    ]
    return HotResponse(answer.http_status, headers, answer.text if answer.http_status != 205 else b"")
