"""The hot routes of NIL: POST /functions/{id}/execute and GET /health (contract 1.5, 2.6, 2.9, 6.4). No framework."""

from __future__ import annotations

from spinney.core.kernel import Kernel
from spinney.dialects.nil.access import check_id, find_target, identify, read_input
from spinney.dialects.nil.invoke import Invoke
from spinney.dialects.nil.refusals import refuse
from spinney.dialects.nil.wire import execution_reply
from spinney.errors import Error, Invalid
from spinney.http.hot import HotRequest, HotResponse
from spinney.http.wire import JSON_TYPE, query_flag

UP = b'{"status":"UP"}'


class HotExecute:
    """Executes a function."""

    def __init__(self, kernel: Kernel, invoke: Invoke) -> None:
        self._kernel = kernel
        self._invoke = invoke

    async def __call__(self, request: HotRequest) -> HotResponse:
        kernel, invoke = self._kernel, self._invoke
        try:
            caller = await identify(kernel, request.headers, request.client)
            id = check_id(request.parameters[0])
            text = await read_input(request)
            target = find_target(kernel, caller, id)
            invoke.check_ready(target)
            if text[:1] != b"{":
                raise Invalid("Input must be a JSON object")
            if request.query and query_flag(request.query, "async"):
                return HotResponse(202, [JSON_TYPE], execution_reply(await invoke.submit(target, text)))
            return HotResponse(200, [JSON_TYPE], execution_reply(await invoke.run(target, text)))
        except Error as error:
            return refuse(error)


class HotHealth:
    """Says that the service is there."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    async def __call__(self, request: HotRequest) -> HotResponse:
        try:
            if request.headers.authorization:
                await identify(self._kernel, request.headers, request.client)
        except Error as error:
            return refuse(error)
        return HotResponse(200, [JSON_TYPE], UP)
