"""What holds for every path: CORS, unknown routes, HEAD, OPTIONS, large bodies, documents (contract 1.2, 2.1, 2.9)."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from spinney.dialects.lunar.openapi import ROUTES
from tests.dialects.lunar.api import Api, Function, has_cors, refused
from tests.server import Server
from tests.wire import Wire

SOURCES = Path(__file__).parents[3] / "src" / "spinney" / "dialects" / "lunar"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(
            ("GET", path)
            for path in ("", "/", "/x", "/api", "/api/functions/", "/fn", "/fn/", "/api/functions//versions", "/docs/")
        ),
        *(("PATCH", path) for path in ("/api/functions", "/docs")),
        *(("POST", path) for path in ("/api/executions/x", "/llms.txt", "/api/functions/x")),
        *(("GET", path) for path in ("/api/auth/login", "/api/functions/x/env", "/api/tokens/x/revoke")),
        ("TRACE", "/fn/x"),
    ],
)
def test_unknown_routes(anonymous: Api, method: str, path: str) -> None:
    response = has_cors(anonymous.send(method, path))
    assert (response.status_code, response.text) == (404, "404 page not found\n")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("path", ["/", "/x", "/api/functions", "/fn/x/y", "/docs", "/api/executions/x/logs"])
def test_options_everywhere(anonymous: Api, path: str) -> None:
    response = has_cors(anonymous.send("OPTIONS", path, headers={"origin": "https://a", "access-control-request-method": "PUT"}))
    assert (response.status_code, response.content) == (204, b"")


def test_options_run_nothing(echo: Function) -> None:
    before = echo.executions("?limit=1")
    assert echo.run(method="OPTIONS").status_code == 204
    assert echo.executions("?limit=1") == before


def test_every_get_answers_head(server: Server, api: Api, echo: Function) -> None:
    token = api.http.headers["authorization"]
    execution = echo.run().headers["x-execution-id"]
    paths = [path for method, path, *_ in ROUTES if method == "GET" and "device" not in path and not path.startswith("/fn")]
    for template in [*paths, "/docs", "/docs/openapi.yaml", "/llms.txt"]:
        path = template.replace("{id}", execution if "/executions/" in template else echo.id)
        path = re.sub("{(version|old|new)}", "1", path)
        got = api.send("GET", path)
        assert got.status_code == 200, path
        with Wire(server.port) as wire:
            wire.head("HEAD", f"/lunar{path}", authorization=token)
            status, headers = wire.answer_head()
            wire.head("HEAD", "/healthz")
            assert wire.answer_head()[0] == 200, "a body was sent"
        assert (status, headers["content-type"]) == (200, got.headers["content-type"]), path


def test_bodies_that_are_too_large(api: Api, echo: Function) -> None:
    large = b"x" * (16777216 + 1)
    refused(api.send("POST", "/api/functions", large), 413, "Request body too large")
    refused(api.send("PUT", f"{echo.path}/env", large), 413, "Request body too large")
    refused(api.send("POST", "/api/functions", b" " * 16777216), 400, "Invalid request body")


def test_deep_json_harms_nobody(api: Api) -> None:
    for text in ("[" * 1000000, '{"name":' * 100000, '{"kv":' + "[" * 100000 + "]" * 100000 + "}"):
        refused(api.send("POST", "/api/functions", text), 400, "Invalid request body")
    function = api.handler("return { body = tostring(#event.body) }")
    deep = '{"password":' * 5000 + "1" + "}" * 5000
    response = function.run(deep)
    assert response.text == str(len(deep))
    assert json.loads(function.execution(response)["event_json"])["body"] in ('{"password":"[REDACTED]"}', "[REDACTED]")


def test_lone_surrogates_do_not_break_lists(api: Api) -> None:
    function = api.function()
    response = function.run('{"a": "\\ud800", "secret": "x"}')
    assert json.loads(function.execution(response)["event_json"])["body"] == '{"a":"\ufffd","secret":"[REDACTED]"}'
    assert len(function.executions()) == 1


# -- documents -------------------------------------------------------------------------------------------------------------


def page(api: Api, path: str, kind: str) -> str:
    response = has_cors(api.send("GET", path))
    assert (response.status_code, response.headers["content-type"]) == (200, kind)
    assert response.headers["cache-control"] == "no-store"
    return response.text


def test_documents(anonymous: Api) -> None:
    text = page(anonymous, "/docs/openapi.yaml", "application/yaml")
    assert text.startswith('openapi: "3.1.0"\n')
    html = page(anonymous, "/docs", "text/html; charset=utf-8")
    assert not re.search(r"(?:src|href)=.(?:https?:)?//|@import|<script", html)
    for method, path, *_ in ROUTES:
        assert f"\n  {path}:\n" in text
        assert f">{method}</span> <code>{path}</code>" in html
    guide = page(anonymous, "/llms.txt", "text/plain; charset=utf-8")
    assert all(name in guide for name in ("handler(ctx, event)", "kv.cas", "http.get", "ai.chat", "email.send", "router.match"))


def test_the_document_names_every_route() -> None:
    described = {(method, re.sub("{.*?}", "{}", path)) for method, path, *_ in ROUTES}
    text = "".join((SOURCES / name).read_text() for name in ("functions.py", "history.py", "credentials.py"))
    text = text.replace('f"{one}', 'f"/api/ONE').replace("{{", "{").replace("}}", "}")
    found = re.findall(r'\("(GET|POST|PUT|DELETE)", (?:f?"(.*?)"|one)\)', text)
    assert len(found) == len([one for one in described if one[1].startswith("/api")])


def test_the_guide_in_the_document_has_no_dead_ends(anonymous: Api) -> None:
    text = page(anonymous, "/docs/openapi.yaml", "application/yaml")
    schemas = set(re.findall(r"^    (\w+):$", text.partition("\n  schemas:\n")[2], re.MULTILINE))
    assert set(re.findall(r"#/components/schemas/(\w+)", text)) <= schemas
