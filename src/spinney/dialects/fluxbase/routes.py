"""The management routes of Fluxbase (contract 2.1 to 2.5, 2.7), on FastAPI for its OpenAPI pages."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response

from spinney.core.kernel import Caller, Kernel, Target
from spinney.dialects.fluxbase import schema
from spinney.dialects.fluxbase.access import DENIED, HISTORY, LISTS, NOT_INVOCABLE, WRITES, Access, RateLimited, quota_headers
from spinney.dialects.fluxbase.hot import METHODS
from spinney.dialects.fluxbase.invoke import NAME
from spinney.dialects.fluxbase.refusals import refuse
from spinney.dialects.fluxbase.rules import Fields, Malformed, create_fields, update_fields
from spinney.dialects.fluxbase.wire import TOO_LARGE, execution_item, function_item, function_object, refusal, to_json
from spinney.errors import Conflict, Denied, Invalid, NotFound
from spinney.http.framework import make_app
from spinney.http.front import SLASH
from spinney.http.hot import HotHeaders, HotResponse
from spinney.http.wire import BodyTooLarge, NotJSON, parse_integer, parse_object, read_body
from spinney.model import Status

FUNCTIONS = "/api/v1/functions"
FUNCTION = "/api/v1/functions/{name}"
INVOKE = "/api/v1/functions/{name}/invoke"
RUNTIME = "deno"
BODY_MAX_BYTES = 5242880
BODY_DRAIN_BYTES = 33554432
LIMIT_MAX = 1000
FINISHED = (Status.SUCCESS, Status.ERROR, Status.TIMEOUT)
TRIGGERS = ("http", "cron", "trigger")
UNKNOWN = "Function not found"

_VERSION_FIELDS = {"code": "source", "memory_limit_mb": "memory_mb", "timeout_seconds": "timeout_s"}
"""What our versions have fields of their own for; all else is among their settings."""


def sentence(message: str) -> str:
    """A message of the front's as Fluxbase writes it."""
    return message[:1].upper() + message[1:]


def reply(request: Request, status: int, value: object) -> Response:
    return _counted(request, HotResponse(status, [(b"content-type", b"application/json")], to_json(value)))


def _counted(request: Request, answer: HotResponse) -> Response:
    """With what the limit says to this request, once it has been counted."""
    response = Response(answer.body, answer.status)
    quota = request.scope.get("spinney.quota")
    response.raw_headers += answer.headers
    if quota is not None and quota.allowed:
        response.raw_headers += quota_headers(quota)
    return response


class Gate:
    """What every management request passes first: 401, 429, and for writes 413 and 400 of the body."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def enter(self, request: Request, group: str) -> Caller:
        """Raises Denied, RateLimited."""
        client = request.client.host if request.client else ""
        caller = await self._access.identify(HotHeaders(request.scope["headers"]), client)
        if caller is None:
            raise Denied(DENIED)
        quota = request.scope["spinney.quota"] = self._access.count(group, caller)
        if not quota.allowed:
            raise RateLimited(quota)
        return caller


async def read_object(request: Request) -> dict[str, Any]:
    """The JSON object in the body. Raises BodyTooLarge, Malformed."""
    try:
        return parse_object(await read_body(request.receive, BODY_MAX_BYTES, BODY_DRAIN_BYTES))
    except NotJSON as error:
        raise Malformed(str(error)) from None


def make_routes(kernel: Kernel, access: Access) -> FastAPI:
    """Everything but invocations."""
    app = make_app(
        "Fluxbase",
        "Edge functions in TypeScript and JavaScript, each in its own sandbox.",
        lambda request, status, message: _counted(request, refusal(status, sentence(message))),
        lambda request, error: _counted(request, refuse(error)),
    )

    async def on_large(request: Request, error: Exception) -> Response:
        assert isinstance(error, BodyTooLarge)
        return _counted(request, refusal(413, TOO_LARGE, *error.headers))

    app.add_exception_handler(BodyTooLarge, on_large)
    gate = Gate(access)
    _add_functions(app, kernel, gate)
    _add_executions(app, kernel, gate)
    _describe_invoke(app)
    return app


def _add_functions(app: FastAPI, kernel: Kernel, gate: Gate) -> None:
    @app.post(FUNCTIONS, status_code=201, responses=schema.created, openapi_extra=schema.create_body, tags=["functions"])
    async def create(request: Request) -> Response:
        """Create a function."""
        caller = await gate.enter(request, WRITES)
        fields = create_fields(await read_object(request))
        try:
            function, version = await kernel.functions.create(
                account_id=caller.account_id,
                dialect=NAME,
                name=fields.pop("name"),
                version={"runtime": RUNTIME, "handler": "", **_version_fields(fields), "settings": _settings(fields)},
            )
        except Conflict:
            raise Conflict("Function with this name already exists") from None
        return reply(request, 201, function_object(function, version))

    @app.get(FUNCTIONS, responses=schema.listed, tags=["functions"])
    async def find(request: Request) -> Response:
        """All functions, newest first, without their code."""
        caller = await gate.enter(request, LISTS)
        targets = kernel.index.find(NAME, caller.account_id)
        return reply(request, 200, [function_item(target.function, target.version) for target in targets])

    @app.get(FUNCTION, responses=schema.shown, tags=["functions"])
    async def get(request: Request, name: str) -> Response:
        """One function, whole."""
        target = find_target(kernel, await gate.enter(request, LISTS), name)
        try:
            function, version = await kernel.functions.get(target)
        except NotFound:
            raise NotFound(UNKNOWN) from None
        return reply(request, 200, function_object(function, version))

    @app.put(FUNCTION, responses=schema.updated, openapi_extra=schema.update_body, tags=["functions"])
    async def update(request: Request, name: str) -> Response:
        """Change some fields; the next invocation uses them."""
        caller = await gate.enter(request, WRITES)
        fields = update_fields(await read_object(request))
        target = find_target(kernel, caller, name)
        try:
            function, version = await kernel.functions.update(
                target.function.id, version=_version_fields(fields), version_settings=_settings(fields)
            )
        except NotFound:
            raise NotFound(UNKNOWN) from None
        return reply(request, 200, function_object(function, version))

    @app.delete(FUNCTION, status_code=204, responses=schema.deleted, tags=["functions"])
    async def delete(request: Request, name: str) -> Response:
        """Remove a function, its schedule and its history."""
        target = find_target(kernel, await gate.enter(request, WRITES), name)
        try:
            await kernel.functions.delete(target)
        except NotFound:
            raise NotFound(UNKNOWN) from None
        return _counted(request, HotResponse(204, [], b""))


def _add_executions(app: FastAPI, kernel: Kernel, gate: Gate) -> None:
    @app.get(FUNCTION + "/executions", responses=schema.history, openapi_extra=schema.history_query, tags=["executions"])
    async def executions(request: Request, name: str) -> Response:
        """The finished runs of a function, newest first."""
        target = find_target(kernel, await gate.enter(request, HISTORY), name)
        limit = parse_integer(request.query_params.get("limit", "50"))
        if limit is None or not 1 <= limit <= LIMIT_MAX:
            raise Invalid(f"limit must be between 1 and {LIMIT_MAX}", "limit")
        offset = parse_integer(request.query_params.get("offset", "0"))
        if offset is None:
            raise Invalid("offset must be a non-negative integer", "offset")
        status = _one_of(request, "status", FINISHED)
        trigger = _one_of(request, "trigger_type", TRIGGERS)
        found = await kernel.records.find(
            target.function.id, status=(status,) if status else FINISHED, trigger=trigger, limit=limit, offset=offset
        )
        return reply(request, 200, [execution_item(execution) for execution in found])


def _describe_invoke(app: FastAPI) -> None:
    """For the OpenAPI pages and for 405; the front takes these requests before they get here."""

    async def invoke(name: str) -> Response:
        """Run the function; the reply is its own."""
        raise NotFound(NOT_INVOCABLE)

    for method in METHODS:
        app.add_api_route(
            INVOKE,
            invoke,
            methods=[method],
            responses=schema.invoked,
            openapi_extra=schema.invoke_body if method in ("POST", "PUT", "PATCH") else None,
            operation_id=f"invoke_{method.lower()}",
            tags=["functions"],
        )


def find_target(kernel: Kernel, caller: Caller, name: str) -> Target:
    """The function of that name in the caller's account. Raises NotFound."""
    target = kernel.index.get(NAME, caller.account_id, name.replace(SLASH, "/"))
    if target is None:
        raise NotFound(UNKNOWN)
    return target


def _version_fields(fields: Fields) -> Fields:
    version = {ours: fields[theirs] for theirs, ours in _VERSION_FIELDS.items() if theirs in fields}
    if "timeout_s" in version:
        version["timeout_s"] = float(version["timeout_s"])
    return version


def _settings(fields: Fields) -> Fields:
    return {name: value for name, value in fields.items() if name not in _VERSION_FIELDS}


def _one_of(request: Request, name: str, values: tuple[str, ...]) -> str | None:
    value = request.query_params.get(name)
    if value is not None and value not in values:
        raise Invalid(f"{name} must be one of: {', '.join(values)}", name)
    return value
