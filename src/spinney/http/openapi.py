"""What OpenAPI pages say of a route, where requests are not judged by schemas."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

Responses = dict[int | str, dict[str, Any]]


def responses(problem: type[BaseModel], status: int, model: Any, *problems: int) -> Responses:
    """A route's answers: ``model`` with ``status`` when all goes well, ``problem`` with any of ``problems``."""
    described: Responses = {status: {"model": model, "description": "Done"}}
    for refused in problems:
        described[refused] = {"model": problem, "description": "Refused"}
    return described


def body(model: type[BaseModel] | None, *, required: bool = True) -> dict[str, Any]:
    """A JSON body: of this model, or any."""
    schema = model.model_json_schema() if model else {}
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def query(*parameters: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """Query parameters: name and JSON schema of each."""
    return {"parameters": [{"name": name, "in": "query", "required": False, "schema": schema} for name, schema in parameters]}
