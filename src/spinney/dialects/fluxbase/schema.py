"""What the OpenAPI pages say of Fluxbase. Requests are judged by ``rules``, not by these schemas."""

from __future__ import annotations

from functools import partial
from typing import Literal

from pydantic import BaseModel, Field

from spinney.http.openapi import Responses, body, query, responses


class Settings(BaseModel):
    """What can be set when a function is made and changed later."""

    description: str | None = None
    enabled: bool = False
    timeout_seconds: int = Field(30, ge=1, le=300)
    memory_limit_mb: int = Field(128, ge=64, le=1024)
    allow_net: bool = True
    allow_env: bool = True
    allow_read: bool = False
    allow_write: bool = False
    allow_unauthenticated: bool | None = None
    cron_schedule: str | None = Field(None, examples=["0 9 * * MON-FRI"])


class NewFunction(Settings):
    """Body of a create."""

    name: str = Field(pattern="^[A-Za-z0-9_-]{1,64}$", examples=["hello-world"])
    code: str = Field(examples=["export default (req) => new Response(`Hello ${req.params.name}`)"])


class FunctionChange(BaseModel):
    """Body of an update: any of these."""

    code: str | None = None
    description: str | None = None
    enabled: bool | None = None
    timeout_seconds: int | None = Field(None, ge=1, le=300)
    memory_limit_mb: int | None = Field(None, ge=64, le=1024)
    allow_net: bool | None = None
    allow_env: bool | None = None
    allow_read: bool | None = None
    allow_write: bool | None = None
    allow_unauthenticated: bool | None = None
    cron_schedule: str | None = None


class FunctionItem(Settings):
    id: str
    name: str
    version: int
    created_at: str
    updated_at: str
    created_by: str


class FunctionObject(FunctionItem):
    code: str


class ExecutionItem(BaseModel):
    id: str
    function_id: str
    trigger_type: Literal["http", "cron", "trigger"]
    status: Literal["success", "error", "timeout"]
    status_code: int
    duration_ms: int
    result: str | None
    logs: str
    error_message: str | None
    executed_at: str
    completed_at: str


class Problem(BaseModel):
    error: str
    details: str | None = None
    retry_after: int | None = None


class FailedRun(BaseModel):
    """An invocation without a reply of the function's own."""

    error: str
    message: str
    function: str
    execution_id: str


_responses = partial(responses, Problem)

created = _responses(201, FunctionObject, 400, 401, 409, 413, 429)
listed = _responses(200, list[FunctionItem], 401, 429)
shown = _responses(200, FunctionObject, 401, 404, 429)
updated = _responses(200, FunctionObject, 400, 401, 404, 413, 429)
deleted = _responses(204, None, 401, 404, 429)
history = _responses(200, list[ExecutionItem], 400, 401, 404, 429)
invoked: Responses = {
    200: {"description": "Whatever the function answers, with its own status and content type"},
    **{status: {"model": Problem, "description": "Refused"} for status in (401, 404, 413, 429)},
    **{status: {"model": FailedRun, "description": "Failed"} for status in (408, 500, 503)},
}
create_body = body(NewFunction)
update_body = body(FunctionChange)
invoke_body = body(None, required=False)
history_query = query(
    ("limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 50}),
    ("offset", {"type": "integer", "minimum": 0, "default": 0}),
    ("status", {"type": "string", "enum": ["success", "error", "timeout"]}),
    ("trigger_type", {"type": "string", "enum": ["http", "cron", "trigger"]}),
)
