"""What the OpenAPI pages say of NIL's routes; requests are judged by ``rules`` and ``access``."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from pydantic import BaseModel, Field

from spinney.http.openapi import Responses, body, query, responses

FunctionStatus = Literal["PENDING", "COMPILING", "READY", "FAILED"]
ExecutionStatus = Literal["PENDING", "RUNNING", "COMPLETED", "FAILED"]


class FunctionBody(BaseModel):
    """Body of a create or an update."""

    name: str = Field(min_length=1, max_length=255, examples=["echo"])
    description: str | None = None
    language: str = Field(examples=["assemblyscript"])
    source: str | None = Field(None, examples=["export function handle(input: string): string { return input; }"])
    wasm: str | None = Field(None, description="A module in base64, in place of source when language is wasm.")


class FunctionItem(BaseModel):
    id: str
    name: str
    status: FunctionStatus
    createdAt: str  # noqa: N815  as it is on the wire


class FunctionObject(FunctionItem):
    description: str | None
    language: str
    source: str | None
    compileError: str | None  # noqa: N815
    updatedAt: str  # noqa: N815


class ExecuteBody(BaseModel):
    """Body of an execution; it may be left out."""

    input: dict[str, Any] | None = Field(None, examples=[{"a": 5, "b": 3}])


class Executed(BaseModel):
    id: str
    functionId: str  # noqa: N815
    status: ExecutionStatus
    output: Any
    errorMessage: str | None  # noqa: N815
    createdAt: str  # noqa: N815


class ExecutionItem(BaseModel):
    id: str
    status: ExecutionStatus
    startedAt: str | None  # noqa: N815
    completedAt: str | None  # noqa: N815


class AccountExecution(ExecutionItem):
    functionId: str  # noqa: N815


class ExecutionObject(AccountExecution):
    input: dict[str, Any]
    output: Any
    errorMessage: str | None  # noqa: N815
    createdAt: str  # noqa: N815
    logs: list[str]
    durationMs: float | None  # noqa: N815


class Health(BaseModel):
    status: Literal["UP"]


class Problem(BaseModel):
    timestamp: str
    status: int
    error: str
    message: str


_responses = partial(responses, Problem)

created = _responses(201, FunctionItem, 400, 401, 413, 415)
listed = _responses(200, list[FunctionItem], 401)
shown = _responses(200, FunctionObject, 400, 401, 404)
updated = _responses(200, FunctionObject, 400, 401, 404, 413, 415)
deleted = _responses(204, None, 400, 401, 404)
history = _responses(200, list[ExecutionItem], 400, 401, 404)
account_history = _responses(200, list[AccountExecution], 400, 401)
execution = _responses(200, ExecutionObject, 400, 401, 404)
executed: Responses = {
    **_responses(200, Executed, 400, 401, 404, 413, 415, 503),
    202: {"model": Executed, "description": "Accepted"},
}
health = _responses(200, Health, 401)
function_body = body(FunctionBody)
execute_body = {**body(ExecuteBody, required=False), **query(("async", {"type": "boolean", "default": False}))}
history_query = query(
    ("limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}),
    ("offset", {"type": "integer", "minimum": 0, "default": 0}),
    ("status", {"type": "string", "enum": ["PENDING", "RUNNING", "COMPLETED", "FAILED"]}),
)
