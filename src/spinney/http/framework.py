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
    title: str, description: str, error_response: Callable[[Request, int, str], Response], error_status: Callable[[Error], int]
) -> FastAPI:
    """An application whose every error goes through ``error_response(request, status, message)``.

    ``error_status`` gives the HTTP status of an error of ours. Unknown routes are 404 "not found"; a known route with another
    method is 405 with all methods of that route in ``Allow``.
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
        return error_response(request, error_status(error), error.message)

    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Error, on_error)
    return app


def allowed_methods(app: FastAPI, scope: Any) -> list[str]:
    """Every method that some route takes for this path."""
    methods: set[str] = set()
    for route in app.routes:
        if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE:
            methods |= route.methods or set()
    return sorted(methods)
