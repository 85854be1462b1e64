"""FastAPI as the dialects use it: no framework page, redirect or error shape ever shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from spinney.errors import Error


def make_app(
    title: str,
    description: str,
    error_response: Callable[[Request, int, str], Response],
    refuse: Callable[[Request, Error], Response],
) -> FastAPI:
    """An application whose faults go through ``error_response(request, status, message)``, and errors of ours through ``refuse``.

    Unknown routes are 404 "not found"; a known route with another method is 405 with all methods of that route in ``Allow``;
    what nobody has foreseen is 500, and raised again for the log.
    """
    app = FastAPI(title=title, description=description, version="1", redirect_slashes=False)

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            response = error_response(request, 405, "method not allowed")
            response.headers["Allow"] = ", ".join(allowed_methods(app, request.scope))
            return response
        return error_response(request, error.status_code, "not found" if error.status_code == 404 else str(error.detail))

    async def on_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, Error)
        return refuse(request, error)

    async def on_fault(request: Request, error: Exception) -> Response:
        return error_response(request, 500, "internal server error")

    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Error, on_error)
    app.add_exception_handler(Exception, on_fault)
    return app


def allowed_methods(app: FastAPI, scope: Any) -> list[str]:
    """Every method that some route takes for this path."""
    methods: set[str] = set()
    for route in app.routes:
        if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE:
            methods |= route.methods or set()
    return sorted(methods)
