"""The hot route of Impuls: POST /api/v1/functions/{name}/invoke (contract 2.7, 6.2). Raw ASGI, no framework."""

from __future__ import annotations

from time import time
from urllib.parse import parse_qsl

import msgspec

from spinney.core.kernel import Kernel, Target, new_execution_id
from spinney.dialects.impuls.access import RequestHeaders, identify
from spinney.dialects.impuls.wire import Envelope, envelope
from spinney.errors import Denied, Unavailable
from spinney.http.wire import (
    JSON_TYPE,
    BodyTooLarge,
    Headers,
    NotJSON,
    Receive,
    Scope,
    Send,
    check_json,
    read_body,
    send_bytes,
    send_json,
)
from spinney.model import Call, Execution, Status

NAME = "impuls"
BODY_MAX_BYTES = 6291456
BODY_DRAIN_BYTES = 33554432
BODILESS = (204, 205, 304)


async def refuse(send: Send, status: int, message: str, headers: Headers | None = None) -> None:
    """An error that is not an envelope (contract 1)."""
    await send_json(send, status, {"error": True, "message": message}, headers)


class Invoke:
    """The handler, bound to a kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    async def __call__(self, scope: Scope, receive: Receive, send: Send, parameters: list[str]) -> None:
        kernel = self._kernel
        headers = RequestHeaders(scope)
        try:
            caller = await identify(kernel, scope, headers)
        except Denied as denied:
            await refuse(send, 401, denied.message, [(b"www-authenticate", b"Bearer")])
            return
        target = kernel.index.get(NAME, caller.account_id, parameters[0])
        if target is None:
            await refuse(send, 404, f"function '{parameters[0]}' not found")
            return
        event = await read_event(receive, send, headers)
        if event is None:
            return
        if scope["query_string"] and _flag(scope["query_string"], "async"):
            await self._later(target, event, send)
            return
        try:
            await kernel.records.room()
            answer = await self.run(target, Call(new_execution_id(), event, target.version.timeout_s), "http")
        except Unavailable as error:
            await refuse(send, 500, error.message)
            return
        await _send_envelope(send, answer)

    async def run(self, target: Target, call: Call, trigger: str) -> Envelope:
        """Invoke and record. Raises Unavailable when the record cannot be kept."""
        kernel = self._kernel
        started = time()
        reply = await kernel.invoker.invoke(target, call, trigger)
        execution = Execution(
            id=call.id,
            function_id=target.function.id,
            version_id=target.version.id,
            account_id=target.function.account_id,
            trigger=trigger,
            status=Status.ERROR,
            started_at=started,
            finished_at=time(),
            tier=kernel.records.tier,
        )
        answer = envelope(target, reply, execution)
        kernel.records.end(execution)
        kernel.metrics.observe(NAME, reply.outcome, reply.duration_s)
        return answer

    async def _later(self, target: Target, event: bytes, send: Send) -> None:
        execution = Execution(
            id=new_execution_id(),
            function_id=target.function.id,
            version_id=target.version.id,
            account_id=target.function.account_id,
            trigger="async",
            status=Status.QUEUED,
            started_at=time(),
            input=event.decode(),
            tier=self._kernel.records.tier,
        )
        try:
            await self._kernel.background.submit(execution)
        except Unavailable as error:
            await refuse(send, 500, error.message)
            return
        await send_json(send, 202, {"execution_id": execution.id})

    async def run_queued(self, target: Target, execution: Execution) -> None:
        """Run what ``_later`` kept."""
        event = (execution.input or "{}").encode()
        await self.run(target, Call(execution.id, event, target.version.timeout_s), execution.trigger)


async def read_event(receive: Receive, send: Send, headers: RequestHeaders) -> bytes | None:
    """The event's JSON text; None when the request has been refused (415, 413, 400)."""
    body = await read_request(receive, send, headers)
    if body is None:
        return None
    if not body or body.isspace():
        return b"{}"
    try:
        check_json(body)
    except NotJSON as error:
        await refuse(send, 400, f"Invalid request body: {error}")
        return None
    return body


async def read_request(receive: Receive, send: Send, headers: RequestHeaders) -> bytes | None:
    """The body within its limits; None when the request has been refused (415, 413)."""
    if headers.encoding and headers.encoding.lower() != b"identity":
        await refuse(send, 415, f"unsupported content encoding '{headers.encoding.decode('latin-1')}'")
        return None
    try:
        return await read_body(receive, BODY_MAX_BYTES, BODY_DRAIN_BYTES)
    except BodyTooLarge as error:
        close = None if error.drained else [(b"connection", b"close")]
        await refuse(send, 413, f"request body too large (max {BODY_MAX_BYTES} bytes)", close)
        return None


def _flag(query: bytes, name: str) -> bool:
    values = [value for key, value in parse_qsl(query.decode("latin-1")) if key == name]
    return any(value.lower() == "true" or value == "1" for value in values)


async def _send_envelope(send: Send, answer: Envelope) -> None:
    status = answer.http_status
    headers = [
        JSON_TYPE,
        (b"x-impuls-duration", b"%d" % answer.duration_ms),
        (b"x-execution-id", answer.execution.id.encode()),
    ]
    if status in BODILESS:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
    else:
        await send_bytes(send, status, headers, answer.text)


def to_json(value: object) -> bytes:
    """JSON text of a management answer."""
    return msgspec.json.encode(value)
