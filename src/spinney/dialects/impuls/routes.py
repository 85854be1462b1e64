"""The management routes of Impuls (contract 2.1 to 2.6, 6.1, 6.3), on FastAPI for its OpenAPI pages."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response

from spinney.core.kernel import Caller, Kernel, Target
from spinney.dialects.impuls import schema
from spinney.dialects.impuls.hot import NAME
from spinney.dialects.impuls.rules import CodeTooLarge, create_fields, update_fields
from spinney.dialects.impuls.wire import execution_item, execution_object, function_item, function_object, to_json
from spinney.errors import Conflict, Error, Invalid, NotFound, Unavailable
from spinney.http.framework import make_app
from spinney.http.front import SLASH
from spinney.http.wire import NotJSON, parse_integer, parse_object
from spinney.model import Execution, Status

EXECUTIONS = (1, 1000, 50)
FUNCTIONS = "/api/v1/functions"
FUNCTION = "/api/v1/functions/{name}"

_STATUS: dict[type[Error], int] = {NotFound: 404, CodeTooLarge: 413, Invalid: 400, Conflict: 400, Unavailable: 500}


def error_response(request: Request, status: int, message: str) -> Response:
    return reply(status, {"error": True, "message": message})


def reply(status: int, value: object) -> Response:
    return Response(to_json(value), status, media_type="application/json")


def make_routes(kernel: Kernel) -> FastAPI:
    """Everything but invocations. The gate before it sets ``spinney.caller`` and ``spinney.body`` in the scope."""
    app = make_app(
        "Impuls",
        "One source file, one handler, its own sandbox; invoked by POST.",
        error_response,
        lambda request, error: error_response(request, _status(error), error.message),
    )
    _add_functions(app, kernel)
    _add_executions(app, kernel)
    _describe_invoke(app)
    return app


def _status(error: Error) -> int:
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)


def _add_functions(app: FastAPI, kernel: Kernel) -> None:
    @app.get("/health", responses=schema.health, tags=["service"])
    async def health() -> Response:
        """Whether the service answers."""
        return reply(200, {"status": "healthy", "service": "impuls"})

    @app.post(FUNCTIONS, status_code=201, responses=schema.created, openapi_extra=schema.create_body, tags=["functions"])
    async def create(request: Request) -> Response:
        """Create a function."""
        fields = create_fields(_body(request))
        name = fields["name"]
        try:
            function, version = await kernel.functions.create(
                account_id=_caller(request).account_id,
                dialect=NAME,
                name=name,
                description=fields["description"],
                version=_version_fields(fields),
            )
        except Conflict:
            raise Conflict(f"name: function '{name}' already exists") from None
        return reply(201, function_object(function, version))

    @app.get(FUNCTIONS, responses=schema.listed, tags=["functions"])
    async def find(request: Request) -> Response:
        """All functions, newest first, without code and environment."""
        targets = kernel.index.find(NAME, _caller(request).account_id)
        items = [function_item(target.function, target.version) for target in targets]
        return reply(200, {"functions": items, "count": len(items)})

    @app.get(FUNCTION, responses=schema.shown, tags=["functions"])
    async def get(request: Request, name: str) -> Response:
        """One function, whole."""
        function, version = await kernel.functions.get(find_target(kernel, request, name))
        return reply(200, function_object(function, version))

    @app.put(FUNCTION, responses=schema.updated, openapi_extra=schema.update_body, tags=["functions"])
    @app.patch(FUNCTION, responses=schema.updated, openapi_extra=schema.update_body, tags=["functions"])
    async def update(request: Request, name: str) -> Response:
        """Change some fields; the next invocation uses them."""
        target = find_target(kernel, request, name)
        fields = update_fields(_body(request), name=target.function.name, id=target.function.id)
        try:
            function, version = await kernel.functions.update(
                target.function.id, description=fields.get("description"), version=_version_fields(fields)
            )
        except NotFound:
            raise _unknown(name) from None
        return reply(200, function_object(function, version))

    @app.delete(FUNCTION, responses=schema.deleted, tags=["functions"])
    async def delete(request: Request, name: str) -> Response:
        """Remove a function and its history."""
        target = find_target(kernel, request, name)
        await kernel.functions.delete(target)
        return reply(200, {"message": "Function deleted successfully", "name": target.function.name})


def _add_executions(app: FastAPI, kernel: Kernel) -> None:
    @app.get(FUNCTION + "/executions", responses=schema.history, openapi_extra=schema.history_query, tags=["executions"])
    async def executions(request: Request, name: str) -> Response:
        """The history of a function, newest first."""
        target = find_target(kernel, request, name)
        least, most, default = EXECUTIONS
        limit = _integer(request, "limit", default, least, most)
        offset = _integer(request, "offset", 0, 0, 2**31)
        status = request.query_params.get("status")
        if status is not None and status not in set(Status):
            raise Invalid(f"status: must be one of {', '.join(Status)}", "status")
        found = await kernel.records.find(target.function.id, status=(status,) if status else (), limit=limit, offset=offset)
        items = [execution_item(execution) for execution in found]
        return reply(200, {"executions": items, "count": len(items)})

    @app.get("/api/v1/executions/{id}", responses=schema.execution, tags=["executions"])
    async def execution(request: Request, id: str) -> Response:
        """One execution, with its result."""
        found = await kernel.records.get(id)
        target = kernel.index.get_function(found.function_id) if found else None
        if found is None or target is None or not _owns(request, found, target):
            raise NotFound(f"execution '{id.replace(SLASH, '/')}' not found")
        return reply(200, execution_object(found, target.function.name))


def _describe_invoke(app: FastAPI) -> None:
    """For the OpenAPI pages and for 405; the front takes these requests before they get here."""

    @app.post(FUNCTION + "/invoke", responses=schema.invoked, openapi_extra=schema.invoke_body, tags=["functions"])
    async def invoke(name: str) -> Response:
        """Run the function with the body as its event."""
        raise NotFound(f"function '{name}' not found")


def find_target(kernel: Kernel, request: Request, name: str) -> Target:
    """The function of that name in the caller's account. Raises NotFound."""
    name = name.replace(SLASH, "/")
    target = kernel.index.get(NAME, _caller(request).account_id, name)
    if target is None:
        raise _unknown(name)
    return target


def _unknown(name: str) -> NotFound:
    return NotFound(f"function '{name}' not found")


def _caller(request: Request) -> Caller:
    caller: Caller = request.scope["spinney.caller"]
    return caller


def _owns(request: Request, execution: Execution, target: Target) -> bool:
    return execution.account_id == _caller(request).account_id and target.function.dialect == NAME


def _body(request: Request) -> dict[str, Any]:
    try:
        return parse_object(request.scope["spinney.body"])
    except NotJSON as error:
        raise Invalid(f"Invalid request body: {error}") from None


def _version_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a version, under its own names."""
    names = {"runtime": "runtime", "handler": "handler", "code": "source", "memory_mb": "memory_mb", "environment": "environment"}
    version = {ours: fields[theirs] for theirs, ours in names.items() if theirs in fields}
    if "timeout_sec" in fields:
        version["timeout_s"] = float(fields["timeout_sec"])
    return version


def _integer(request: Request, name: str, default: int, least: int, most: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    number = parse_integer(text)
    if number is None or not least <= number <= most:
        bound = f"between {least} and {most}" if most < 2**31 else f"at least {least}"
        raise Invalid(f"{name}: must be {bound}", name)
    return number
