"""What the OpenAPI pages say of Impuls. Requests are judged by ``rules``, not by these schemas."""

from __future__ import annotations

from functools import partial
from typing import Any

from pydantic import BaseModel, Field

from spinney.http.openapi import body, query, responses


class NewFunction(BaseModel):
    """Body of a create."""

    name: str = Field(pattern="^[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?$", examples=["hello-world"])
    runtime: str = Field(json_schema_extra={"enum": ["nodejs18", "nodejs20", "nodejs22", "python311", "python3"]})
    handler: str = Field(max_length=256, examples=["index.handler"])
    code: str = Field(examples=["exports.handler = async (event) => ({ hello: event.name })"])
    description: str = Field("", max_length=4096)
    memory_mb: int = Field(128, ge=64, le=4096)
    timeout_sec: int = Field(30, ge=1, le=900)
    environment: dict[str, str] = {}


class FunctionChange(BaseModel):
    """Body of an update: any of these."""

    runtime: str | None = None
    handler: str | None = None
    code: str | None = None
    description: str | None = None
    memory_mb: int | None = Field(None, ge=64, le=4096)
    timeout_sec: int | None = Field(None, ge=1, le=900)
    environment: dict[str, str] | None = None


class FunctionItem(BaseModel):
    id: str
    name: str
    description: str
    runtime: str
    handler: str
    memory_mb: int
    timeout_sec: int
    created_at: str
    updated_at: str


class FunctionObject(FunctionItem):
    code: str
    environment: dict[str, str]


class FunctionList(BaseModel):
    functions: list[FunctionItem]
    count: int


class Deleted(BaseModel):
    message: str
    name: str


class Health(BaseModel):
    status: str
    service: str


class Problem(BaseModel):
    error: bool = True
    message: str


class Result(BaseModel):
    """An invocation's envelope; a failure has ``error`` instead of ``body``."""

    status_code: int
    body: Any = None
    headers: dict[str, Any] | None = None
    error: str | None = None
    duration_ms: int
    logs: str


class ExecutionItem(BaseModel):
    id: str
    status: str
    status_code: int | None
    duration_ms: int
    trigger: str
    started_at: str
    logs: str
    error: str | None = None


class ExecutionObject(ExecutionItem):
    function: str
    finished_at: str | None
    body: Any = None
    headers: dict[str, Any] | None = None


class ExecutionList(BaseModel):
    executions: list[ExecutionItem]
    count: int


_responses = partial(responses, Problem)

health = _responses(200, Health)
created = _responses(201, FunctionObject, 400, 401, 413, 415)
listed = _responses(200, FunctionList, 401)
shown = _responses(200, FunctionObject, 401, 404)
updated = _responses(200, FunctionObject, 400, 401, 404, 413, 415)
deleted = _responses(200, Deleted, 401, 404)
invoked = _responses(200, Result, 400, 401, 404, 413, 415)
history = _responses(200, ExecutionList, 400, 401, 404)
execution = _responses(200, ExecutionObject, 401, 404)
create_body = body(NewFunction)
update_body = body(FunctionChange)
invoke_body = body(None, required=False) | query(("local", {"type": "boolean"}), ("async", {"type": "boolean"}))
history_query = query(
    ("limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 50}),
    ("offset", {"type": "integer", "minimum": 0, "default": 0}),
    ("status", {"type": "string", "enum": ["queued", "running", "success", "error", "timeout"]}),
)
