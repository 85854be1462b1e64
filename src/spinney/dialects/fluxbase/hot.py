"""The hot route of Fluxbase: /api/v1/functions/{name}/invoke, by five methods (contract 1.4, 2.6). No framework."""

from __future__ import annotations

from spinney.core.kernel import Caller, Kernel
from spinney.dialects.fluxbase.access import Access
from spinney.dialects.fluxbase.guest import template
from spinney.dialects.fluxbase.invoke import HTTP, Answer, Invoke
from spinney.dialects.fluxbase.refusals import refuse
from spinney.dialects.fluxbase.wire import TOO_LARGE, refusal
from spinney.errors import Error
from spinney.http.address import full_url
from spinney.http.hot import HotRequest, HotResponse
from spinney.http.wire import BodyTooLarge

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
BODY_MAX_BYTES = 10485760
BODY_DRAIN_BYTES = 33554432


class HotInvoke:
    """The handler of one method."""

    def __init__(self, kernel: Kernel, method: str, access: Access, invoke: Invoke) -> None:
        self._kernel = kernel
        self._method = method
        self._access = access
        self._invoke = invoke

    async def __call__(self, request: HotRequest) -> HotResponse:
        access, name = self._access, request.parameters[0]
        try:
            caller = await access.identify(request.headers, request.client)
            target = access.admit(caller, name)
            access.count_invoke(caller, request.client, target)
            body = await request.body(BODY_MAX_BYTES, BODY_DRAIN_BYTES)
            target = access.admit(caller, name)  # again: a body may take its time, and the function change meanwhile
            answer = await self._invoke.run(target, self._meta(request, caller, len(body)), body, HTTP)
        except BodyTooLarge as error:
            return refusal(413, TOO_LARGE, *error.headers)
        except Error as error:
            return refuse(error)
        return respond(answer, name)

    def _meta(self, request: HotRequest, caller: Caller | None, length: int) -> bytes:
        """Made once for all requests with this head: who sends the same head again presents the same token."""
        memo = request.headers.memo
        if memo is None:
            user_id = caller.account_id if caller else None
            url = full_url(self._kernel.public_url, request.headers.host, request.path, request.query)
            memo = request.headers.memo = template(self._method, url, request.headers.fields, user_id)
        meta: bytes = memo.fill(length)
        return meta


def respond(answer: Answer, name: str) -> HotResponse:
    """The function's own reply, or the form of a failure."""
    id_header = (b"x-execution-id", answer.execution.id.encode())
    if answer.failure is None:
        answer.headers.append(id_header)
        return HotResponse(answer.status, answer.headers, answer.body)
    failure = answer.failure
    return refusal(
        answer.status, failure.error, id_header, message=failure.message, function=name, execution_id=answer.execution.id
    )
