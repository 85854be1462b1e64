"""Executions, and what they asked of others (contract 2.8)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from spinney.core.kernel import Caller, Kernel
from spinney.dialects.lunar import wire
from spinney.dialects.lunar.access import NAME, identify
from spinney.dialects.lunar.replies import json_response
from spinney.dialects.lunar.service import find_target, read_query
from spinney.errors import NotFound
from spinney.http.hot import Handler, HotRequest, HotResponse
from spinney.model import AIRequest, EmailRequest, Execution

NO_EXECUTION = "Execution not found"
Kind = TypeVar("Kind", AIRequest, EmailRequest)


class HistoryRoutes:
    """Bound to a kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def routes(self) -> dict[tuple[str, str], Handler]:
        one = "/api/executions/{id}"
        return {
            ("GET", "/api/functions/{id}/executions"): self.list,
            ("GET", one): self.get,
            ("GET", f"{one}/logs"): self.logs,
            ("GET", f"{one}/ai-requests"): self.ai_requests,
            ("GET", f"{one}/email-requests"): self.email_requests,
        }

    async def list(self, request: HotRequest) -> HotResponse:
        kernel = self._kernel
        caller = await identify(kernel, request)
        target = find_target(kernel, caller, request.parameters[0])
        limit, offset = wire.page(read_query(request))
        id = target.function.id
        total = await kernel.records.count(id)
        found = await kernel.records.find(id, limit=limit, offset=offset, heads=True, inputs=True)
        items = {"executions": [wire.execution_object(one) for one in found], "pagination": wire.pagination(total, limit, offset)}
        return await asyncio.to_thread(json_response, 200, items)

    async def get(self, request: HotRequest) -> HotResponse:
        execution = await self._find(await identify(self._kernel, request), request.parameters[0])
        return json_response(200, wire.execution_object(execution))

    async def logs(self, request: HotRequest) -> HotResponse:
        execution = await self._find(await identify(self._kernel, request), request.parameters[0])
        limit, offset = wire.page(read_query(request))
        rows = await asyncio.to_thread(wire.log_rows, execution)
        shown = {"logs": rows[offset : offset + limit], "pagination": wire.pagination(len(rows), limit, offset)}
        return json_response(200, wire.execution_object(execution) | shown)

    async def ai_requests(self, request: HotRequest) -> HotResponse:
        return await self._requests(request, "ai_requests", AIRequest, wire.ai_object)

    async def email_requests(self, request: HotRequest) -> HotResponse:
        return await self._requests(request, "email_requests", EmailRequest, wire.email_object)

    async def _requests(
        self, request: HotRequest, name: str, kind: type[Kind], show: Callable[[Kind], dict[str, Any]]
    ) -> HotResponse:
        execution = await self._find(await identify(self._kernel, request), request.parameters[0])
        limit, offset = wire.page(read_query(request))
        found, total = await self._kernel.ledger.find(kind, execution.id, limit=limit, offset=offset)
        return json_response(200, {name: [show(one) for one in found], "pagination": wire.pagination(total, limit, offset)})

    async def _find(self, caller: Caller, id: str) -> Execution:
        """An execution of a function that is there, and the caller's. Raises NotFound."""
        execution = await self._kernel.records.get(id)
        if execution is None or self._kernel.index.get(NAME, caller.account_id, execution.function_id) is None:
            raise NotFound(NO_EXECUTION)
        return execution
