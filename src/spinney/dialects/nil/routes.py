"""The management routes of NIL (contract 2.1 to 2.5, 2.7, 2.8, 6.3), on FastAPI for its OpenAPI pages."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response

from spinney.core.kernel import Caller, Kernel, Target
from spinney.dialects.nil import schema
from spinney.dialects.nil.access import NAME, check_id, find_target, identify, read_object
from spinney.dialects.nil.refusals import refuse
from spinney.dialects.nil.rules import Fields, function_fields
from spinney.dialects.nil.wire import (
    PENDING,
    STATUSES,
    execution_item,
    execution_list_item,
    execution_object,
    function_item,
    function_object,
    function_status,
    refusal,
    sentence,
    to_json,
)
from spinney.errors import Invalid, NotFound
from spinney.http.framework import make_app
from spinney.http.front import SLASH
from spinney.http.hot import Handler, HotHeaders, HotRequest, HotResponse
from spinney.http.wire import JSON_TYPE, parse_integer
from spinney.model import Function, Version

FUNCTIONS = "/functions"
FUNCTION = "/functions/{id}"
EXECUTE = "/functions/{id}/execute"
EXECUTIONS = "/executions"
EXECUTION = "/executions/{id}"
HEALTH = "/health"
RUNTIME = "wasm"
MEMORY_MB = 128
TIMEOUT_S = 10.0
LIMIT = (1, 1000, 100)
ALL = 1 << 60
MANY = 500
"""Rows that are put into words beside the event loop."""


def reply(status: int, value: object) -> Response:
    return _respond(HotResponse(status, [JSON_TYPE], to_json(value)))


def _respond(answer: HotResponse) -> Response:
    response = Response(answer.body, answer.status)
    response.raw_headers += answer.headers
    return response


def error_response(request: Request, status: int, message: str) -> Response:
    """What the framework has to say."""
    path = request.scope["path"].removeprefix(request.scope["root_path"]).replace(SLASH, "/") or "/"
    texts = {404: f"No endpoint: {request.method} {path}", 405: f"Method {request.method} is not allowed"}
    return _respond(refusal(status, texts.get(status) or sentence(message)))


def make_routes(kernel: Kernel, execute: Handler, health: Handler) -> FastAPI:
    """Everything, also what the front usually takes first: ``execute`` and ``health``."""
    app = make_app(
        "NIL",
        "Source, compiled to WebAssembly and executed with a JSON object; each function in its own sandboxes.",
        error_response,
        lambda request, error: _respond(refuse(error)),
    )
    _add_functions(app, kernel)
    _add_executions(app, kernel)
    _add_hot(app, execute, health)
    return app


def hot_request(request: Request, *parameters: str) -> HotRequest:
    """A request as hot routes see it."""
    headers, query = HotHeaders(request.scope["headers"]), request.scope["query_string"]
    client = request.client.host if request.client else ""
    return HotRequest(list(parameters), headers, request.url.path, query, client, receive=request.receive)


async def enter(kernel: Kernel, request: Request) -> tuple[Caller, HotRequest]:
    """Who calls, and the request as hot routes see it. Raises Denied."""
    hot = hot_request(request)
    return await identify(kernel, hot.headers, hot.client), hot


async def enter_function(kernel: Kernel, request: Request, id: str) -> Target:
    """The function that a request without a body is about. Raises Denied, Invalid, NotFound."""
    caller, _ = await enter(kernel, request)
    return find_target(kernel, caller, check_id(id.replace(SLASH, "/")))


def _add_functions(app: FastAPI, kernel: Kernel) -> None:
    @app.post(FUNCTIONS, status_code=201, responses=schema.created, openapi_extra=schema.function_body, tags=["functions"])
    async def create(request: Request) -> Response:
        """Register a function; its compilation begins."""
        caller, body = await enter(kernel, request)
        fields = function_fields(await read_object(body), kernel.builds.languages())
        version = {"runtime": RUNTIME, "handler": "handle", "memory_mb": MEMORY_MB, "timeout_s": TIMEOUT_S, **_version(fields)}
        function, _ = await kernel.functions.create(
            account_id=caller.account_id,
            dialect=NAME,
            version={**version, "settings": {"language": fields.language}},
            settings=_settings(fields),
        )
        return reply(201, function_item(function, PENDING))

    @app.get(FUNCTIONS, responses=schema.listed, tags=["functions"])
    async def find(request: Request) -> Response:
        """All functions, newest first."""
        caller, _ = await enter(kernel, request)
        targets = kernel.index.find(NAME, caller.account_id)
        return reply(200, [function_item(one.function, function_status(kernel.builds.get(one.id))) for one in targets])

    @app.get(FUNCTION, responses=schema.shown, tags=["functions"])
    async def get(request: Request, id: str) -> Response:
        """One function, whole."""
        target = await enter_function(kernel, request, id)
        try:
            return reply(200, await whole(kernel, *await kernel.functions.get(target)))
        except NotFound:
            raise gone(target) from None

    @app.put(FUNCTION, responses=schema.updated, openapi_extra=schema.function_body, tags=["functions"])
    async def update(request: Request, id: str) -> Response:
        """Replace a function; with another source or language it is compiled again."""
        caller, body = await enter(kernel, request)
        id = check_id(id.replace(SLASH, "/"))
        given = await read_object(body)
        target = find_target(kernel, caller, id)
        fields = function_fields(given, kernel.builds.languages())
        try:
            function, version = await kernel.functions.update(
                target.function.id,
                version=_version(fields),
                version_settings={"language": fields.language},
                settings=_settings(fields),
                if_changed=True,
            )
        except NotFound:
            raise gone(target) from None
        if version.created_at == function.updated_at:  # a new revision
            return reply(200, function_object(function, version, None, None))
        return reply(200, await whole(kernel, function, version))

    @app.delete(FUNCTION, status_code=204, responses=schema.deleted, tags=["functions"])
    async def delete(request: Request, id: str) -> Response:
        """Remove a function and its executions."""
        target = await enter_function(kernel, request, id)
        try:
            await kernel.functions.delete(target)
        except NotFound:
            raise gone(target) from None
        return _respond(HotResponse(204, [], b""))


def _add_executions(app: FastAPI, kernel: Kernel) -> None:
    @app.get(FUNCTION + EXECUTIONS, responses=schema.history, tags=["executions"])
    async def history(request: Request, id: str) -> Response:
        """All executions of a function, newest first."""
        target = await enter_function(kernel, request, id)
        found = await kernel.records.find(target.function.id, limit=ALL, heads=True)
        if len(found) <= MANY:
            return reply(200, [execution_item(one) for one in found])
        return await asyncio.to_thread(lambda: reply(200, [execution_item(one) for one in found]))

    @app.get(EXECUTIONS, responses=schema.account_history, openapi_extra=schema.history_query, tags=["executions"])
    async def find(request: Request) -> Response:
        """The executions of all functions, newest first."""
        caller, _ = await enter(kernel, request)
        limit = _number(request, "limit", *LIMIT)
        offset = _number(request, "offset", 0, ALL, 0)
        status = request.query_params.get("status")
        if status is not None and status not in STATUSES:
            raise Invalid(f"status must be one of: {', '.join(STATUSES)}", "status")
        ids = [target.function.id for target in kernel.index.find(NAME, caller.account_id)]
        found = await kernel.records.find(*ids, status=STATUSES[status] if status else (), limit=limit, offset=offset, heads=True)
        return reply(200, [execution_list_item(one) for one in found])

    @app.get(EXECUTION, responses=schema.execution, tags=["executions"])
    async def get(request: Request, id: str) -> Response:
        """One execution, whole."""
        caller, _ = await enter(kernel, request)
        id = check_id(id.replace(SLASH, "/"))
        execution = await kernel.records.get(id)
        if execution is None or kernel.index.get(NAME, caller.account_id, execution.function_id) is None:
            raise NotFound(f"Execution not found: {id}")
        return reply(200, execution_object(execution))


def _add_hot(app: FastAPI, execute: Handler, health: Handler) -> None:
    """For the OpenAPI pages, for 405, and for paths that are written in an unusual way."""

    @app.post(EXECUTE, responses=schema.executed, openapi_extra=schema.execute_body, tags=["executions"])
    async def execute_function(request: Request, id: str) -> Response:
        """Execute a function, at once or, with ``async=true``, later."""
        return _respond(await execute(hot_request(request, id.replace(SLASH, "/"))))

    @app.get(HEALTH, responses=schema.health, tags=["service"])
    async def show_health(request: Request) -> Response:
        """Whether the service is up."""
        return _respond(await health(hot_request(request)))


async def whole(kernel: Kernel, function: Function, version: Version) -> dict[str, Any]:
    """The full view of a function with this version."""
    error = await kernel.builds.error(version.id)
    return function_object(function, version, kernel.builds.get(version.id), error)


def gone(target: Target) -> NotFound:
    return NotFound(f"Function not found: {target.function.id}")


def _version(fields: Fields) -> dict[str, Any]:
    return {"source": fields.source}


def _settings(fields: Fields) -> dict[str, Any]:
    return {"name": fields.name, "description": fields.description}


def _number(request: Request, name: str, least: int, most: int, default: int) -> int:
    number = parse_integer(request.query_params.get(name, str(default)))
    if number is None or not least <= number <= most:
        rule = f"between {least} and {most}" if most < ALL else "a non-negative integer"
        raise Invalid(f"{name} must be {rule}", name)
    return number
