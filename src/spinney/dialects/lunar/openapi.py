"""What the OpenAPI document says of Lunar's routes; requests are judged by ``rules`` and ``access``."""

from __future__ import annotations

from typing import Any

Shape = dict[str, Any]

TEXT: Shape = {"type": "string"}
NUMBER: Shape = {"type": "integer"}
FLAG: Shape = {"type": "boolean"}
TEXTS: Shape = {"type": "object", "additionalProperties": {"type": "string"}}
STATUS: Shape = {"type": "string", "enum": ["success", "error"]}
TIME: Shape = {"type": "integer", "description": "Unix seconds"}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> Shape:
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


def _ref(name: str) -> Shape:
    return {"$ref": f"#/components/schemas/{name}"}


def _list(name: str) -> Shape:
    return {"type": "array", "items": _ref(name)}


def _page(key: str, name: str) -> Shape:
    return _object({key: _list(name), "pagination": _ref("Pagination")})


_EXECUTION = {"id": TEXT, "function_id": TEXT, "function_version_id": TEXT}
_EXECUTION |= {"status": {"type": "string", "enum": ["pending", "success", "error"]}}
_EXECUTION |= {"trigger": {"type": "string", "enum": ["http", "cron"]}, "created_at": TIME}
_EXECUTION_MORE = {"duration_ms": NUMBER, "error_message": TEXT, "event_json": TEXT, "response_json": TEXT}
_REQUEST = {"id": TEXT, "execution_id": TEXT, "request_json": TEXT, "status": STATUS, "duration_ms": NUMBER, "created_at": TIME}
_REQUEST_MORE = {"response_json": TEXT, "error_message": TEXT}

SCHEMAS: dict[str, Shape] = {
    "Error": _object({"error": TEXT}),
    "Success": _object({"success": FLAG}, {"error": TEXT}),
    "Pagination": _object({"total": NUMBER, "limit": NUMBER, "offset": NUMBER}),
    "FunctionVersion": _object(
        {"id": TEXT, "function_id": TEXT, "version": NUMBER, "code": TEXT, "created_at": TIME, "is_active": FLAG}
    ),
    "Function": _object(
        {
            "id": TEXT,
            "name": TEXT,
            "env_vars": TEXTS,
            "disabled": FLAG,
            "save_response": FLAG,
            "created_at": TIME,
            "updated_at": TIME,
            "scoped_data": {"type": ["object", "null"], "additionalProperties": TEXT},
            "global_data": {"type": ["object", "null"], "additionalProperties": TEXT},
            "active_version": _ref("FunctionVersion"),
        },
        {"description": TEXT, "retention_days": NUMBER, "cron_schedule": TEXT, "cron_status": TEXT},
    ),
    "Functions": _page("functions", "Function"),
    "FunctionVersions": _page("versions", "FunctionVersion"),
    "NewFunction": _object({"name": TEXT, "code": TEXT}, {"description": TEXT}),
    "FunctionUpdate": _object(
        {},
        {
            "name": TEXT,
            "description": TEXT,
            "code": TEXT,
            "disabled": FLAG,
            "save_response": FLAG,
            "cron_schedule": TEXT,
            "retention_days": {"type": "integer", "enum": [7, 15, 30, 365]},
            "cron_status": {"type": "string", "enum": ["active", "paused"]},
        },
    ),
    "EnvUpdate": _object({"env_vars": TEXTS}),
    "KvUpdate": _object(
        {}, {"global": FLAG, "kv": TEXTS, "kvEntries": {"type": "array", "items": _object({"key": TEXT, "value": TEXT})}}
    ),
    "NextRun": _object(
        {"has_schedule": FLAG},
        {"cron_schedule": TEXT, "cron_status": TEXT, "is_paused": FLAG, "next_run": TIME, "next_run_human": TEXT},
    ),
    "DiffLine": _object(
        {"line_type": {"type": "string", "enum": ["unchanged", "added", "removed"]}, "content": TEXT},
        {"old_line": NUMBER, "new_line": NUMBER},
    ),
    "VersionDiff": _object({"old_version": NUMBER, "new_version": NUMBER, "diff": _list("DiffLine")}),
    "Execution": _object(_EXECUTION, _EXECUTION_MORE),
    "Executions": _page("executions", "Execution"),
    "LogEntry": _object(
        {"level": {"type": "string", "enum": ["debug", "info", "warn", "error"]}, "message": TEXT, "created_at": TIME}
    ),
    "ExecutionWithLogs": _object({**_EXECUTION, "logs": _list("LogEntry"), "pagination": _ref("Pagination")}, _EXECUTION_MORE),
    "AIRequest": _object(
        {**_REQUEST, "provider": TEXT, "model": TEXT, "endpoint": TEXT},
        {**_REQUEST_MORE, "input_tokens": NUMBER, "output_tokens": NUMBER},
    ),
    "AIRequests": _page("ai_requests", "AIRequest"),
    "EmailRequest": _object(
        {
            **_REQUEST,
            "from": TEXT,
            "to": {"type": "array", "items": TEXT},
            "subject": TEXT,
            "has_text": FLAG,
            "has_html": FLAG,
        },
        {**_REQUEST_MORE, "email_id": TEXT},
    ),
    "EmailRequests": _page("email_requests", "EmailRequest"),
    "APIToken": _object({"id": TEXT, "name": TEXT, "created_at": TIME, "revoked": FLAG}, {"last_used": TIME}),
    "APITokens": _object({"tokens": _list("APIToken")}),
    "NewToken": _object({"name": TEXT}),
    "MadeToken": _object({"id": TEXT, "name": TEXT, "created_at": TIME, "revoked": FLAG, "token": TEXT}),
    "Login": _object({"apiKey": TEXT}),
    "DeviceRequest": _object(
        {"device_code": TEXT, "user_code": TEXT, "approval_url": TEXT, "expires_in": NUMBER, "interval": NUMBER}
    ),
    "DeviceToken": _object({"status": {"type": "string", "enum": ["pending", "approved", "denied"]}}, {"token": TEXT}),
    "DeviceApproveStatus": _object({"device_code": TEXT, "user_code": TEXT, "status": TEXT, "expires_at": TIME}),
    "DeviceApprove": _object({"device_code": TEXT, "action": {"type": "string", "enum": ["allow", "deny"]}}),
}

OPEN = "open"
"""A route that asks for no credential."""
PAGED = "paged"
FN = "/fn/{id}"
F, E = "/api/functions/{id}", "/api/executions/{id}"

ROUTES: tuple[tuple[str, str, str, str, str, str, tuple[int, ...], str], ...] = (
    # method, path, summary, body, status, answer, errors, flag
    ("POST", "/api/auth/login", "Begin a session with the admin key.", "Login", "200", "Success", (400, 401, 429), OPEN),
    ("POST", "/api/auth/logout", "End the session.", "", "200", "Success", (), OPEN),
    ("POST", "/api/auth/device-request", "Ask for a token for a device.", "", "200", "DeviceRequest", (429,), OPEN),
    ("GET", "/api/auth/device-token", "What became of a device's request.", "", "200", "DeviceToken", (400, 404), OPEN),
    ("GET", "/api/auth/device-approve", "Show a device's request.", "", "200", "DeviceApproveStatus", (400, 404), ""),
    ("POST", "/api/auth/device-approve", "Allow or deny a device's request.", "DeviceApprove", "200", "Success", (400, 404), ""),
    ("GET", "/api/tokens", "All tokens, revoked ones too.", "", "200", "APITokens", (), ""),
    ("POST", "/api/tokens", "Make a token; it is shown this once.", "NewToken", "200", "MadeToken", (400,), ""),
    ("POST", "/api/tokens/{id}/revoke", "Make a token useless.", "", "200", "Success", (404,), ""),
    ("POST", "/api/functions", "Create a function.", "NewFunction", "200", "Function", (400,), ""),
    ("GET", "/api/functions", "All functions, newest first.", "", "200", "Functions", (), PAGED),
    ("GET", F, "One function, with its variables and entries.", "", "200", "Function", (404,), ""),
    ("PUT", F, "Change a function; code makes a new version.", "FunctionUpdate", "200", "", (400, 404), ""),
    ("DELETE", F, "Delete a function and everything of it.", "", "204", "", (404,), ""),
    ("PUT", f"{F}/env", "Replace all variables.", "EnvUpdate", "200", "FunctionVersion", (400, 404), ""),
    ("POST", f"{F}/kv", "Replace all entries.", "KvUpdate", "200", "FunctionVersion", (400, 404), ""),
    ("GET", f"{F}/next-run", "When it is due next.", "", "200", "NextRun", (404,), ""),
    ("GET", f"{F}/versions", "All versions, newest first.", "", "200", "FunctionVersions", (404,), PAGED),
    ("GET", f"{F}/versions/{{version}}", "A version by its number.", "", "200", "FunctionVersion", (400, 404), ""),
    ("POST", f"{F}/versions/{{version}}/activate", "Use a version, by its id.", "", "200", "", (404,), ""),
    ("DELETE", f"{F}/versions/{{version}}", "Delete a version, by its id.", "", "204", "", (400, 404), ""),
    ("GET", f"{F}/diff/{{old}}/{{new}}", "What changed between two numbers.", "", "200", "VersionDiff", (400, 404), ""),
    ("GET", f"{F}/executions", "Its executions, newest first.", "", "200", "Executions", (404,), PAGED),
    ("GET", E, "One execution.", "", "200", "Execution", (404,), ""),
    ("GET", f"{E}/logs", "One execution with its log.", "", "200", "ExecutionWithLogs", (404,), PAGED),
    ("GET", f"{E}/ai-requests", "What it asked language models.", "", "200", "AIRequests", (404,), PAGED),
    ("GET", f"{E}/email-requests", "The email it sent.", "", "200", "EmailRequests", (404,), PAGED),
    *(
        (method, FN, f"Run a function by {method}, also at any path below.", "", "200", "", (403, 404, 413, 500, 503), OPEN)
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
    ),
)

REASONS = {
    400: "The request breaks a rule",
    401: "Authentication required",
    403: "The function is disabled",
    404: "Not found",
    413: "The body is too large",
    429: "Too many requests",
    500: "The function failed",
    503: "The server is busy",
}


def make_document() -> Shape:
    """The whole OpenAPI 3.1 document."""
    paths: dict[str, Shape] = {}
    for method, path, summary, body, status, answer, errors, flag in ROUTES:
        operation: Shape = {"summary": summary}
        parameters = [_parameter(part[1:-1], "path") for part in path.split("/") if part.startswith("{")]
        if flag == PAGED:
            parameters += [{**_parameter(name, "query"), "required": False, "schema": NUMBER} for name in ("limit", "offset")]
        if method == "GET" and path.startswith("/api/auth/"):
            parameters.append(_parameter("code", "query"))
        if parameters:
            operation["parameters"] = parameters
        if body:
            operation["requestBody"] = {"required": True, "content": _json(_ref(body))}
        if flag == OPEN:
            operation["security"] = []
        else:
            errors = (*errors, 401)
        answers: Shape = {status: {"description": "Done", **({"content": _json(_ref(answer))} if answer else {})}}
        wrong = "Success" if path in ("/api/auth/login", "/api/auth/logout") else "Error"
        answers |= {str(code): {"description": REASONS[code], "content": _json(_ref(wrong))} for code in sorted(errors)}
        paths.setdefault(path, {})[method.lower()] = operation | {"responses": answers}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Lunar",
            "version": "1",
            "description": "HTTP functions in Lua. GET /llms.txt tells about the language.",
        },
        "security": [{"bearer": []}, {"session": []}],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "auth_token"},
            },
        },
    }


def _parameter(name: str, place: str) -> Shape:
    return {"name": name, "in": place, "required": True, "schema": TEXT}


def _json(schema: Shape) -> Shape:
    return {"application/json": {"schema": schema}}
