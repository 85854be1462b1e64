"""The pages that explain the API: OpenAPI as YAML and as a page, and a guide for programs that write programs (contract 2.9)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from spinney.dialects.lunar.openapi import make_document
from spinney.http.hot import Handler, HotRequest, HotResponse

GUIDE = Path(__file__).with_name("llms.txt")
_PLAIN = re.compile(r"[A-Za-z$/][A-Za-z0-9_$/{} ,'()-]*")
_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24 }
code, pre { font: 14px/1.45 ui-monospace, monospace } pre { background: #f3f5f7; padding: .75rem; overflow-x: auto }
h2 { margin: 2rem 0 .25rem; font-size: 1.05rem } .method { display: inline-block; min-width: 4.5rem; font-weight: 700 }
dl { margin: .25rem 0; display: grid; grid-template-columns: max-content auto; gap: 0 1rem } dd { margin: 0 }
p { margin: .25rem 0 }
"""


def document_routes() -> dict[tuple[str, str], Handler]:
    """The routes of the pages."""
    document = make_document()
    return {
        ("GET", "/docs"): _page("text/html; charset=utf-8", to_html(document)),
        ("GET", "/docs/openapi.yaml"): _page("application/yaml", "\n".join(yaml_lines(document)) + "\n"),
        ("GET", "/llms.txt"): _page("text/plain; charset=utf-8", GUIDE.read_text()),
    }


def _page(kind: str, text: str) -> Handler:
    body = text.encode()

    async def show(request: HotRequest) -> HotResponse:
        return HotResponse(200, [(b"content-type", kind.encode())], body)

    return show


def yaml_lines(value: Any, indent: str = "") -> Iterator[str]:
    """An object as YAML in block style."""
    for name, inner in value.items():
        yield from _entry(f"{indent}{_scalar(name)}:", inner, indent + "  ")


def _entry(before: str, value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, dict) and value:
        yield before
        yield from yaml_lines(value, indent)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        yield before
        for item in value:
            first, *rest = yaml_lines(item, indent + "  ")
            yield f"{indent}- {first.strip()}"
            yield from rest
    else:
        yield f"{before} {_scalar(value)}"


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS and value == value.strip():
        return value
    return json.dumps(value)


def to_html(document: dict[str, Any]) -> str:
    """An OpenAPI document as one page that loads nothing."""
    info = document["info"]
    parts = [f"<h1>{escape(info['title'])}</h1><p>{escape(info['description'])} <a href='docs/openapi.yaml'>OpenAPI</a></p>"]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts.append(_operation(method, path, operation))
    parts.append("<h1>Objects</h1>")
    for name, schema in document["components"]["schemas"].items():
        parts.append(f"<h2 id='{escape(name)}'>{escape(name)}</h2><pre>{escape(_text(schema))}</pre>")
    head = f"<meta charset='utf-8'><title>{escape(info['title'])}</title><style>{STYLE}</style>"
    return f"<!doctype html><html lang='en'>{head}{''.join(parts)}</html>\n"


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    open_to_all = " No credential needed." if operation.get("security") == [] else ""
    rows = [f"<dt>{escape(p['name'])}</dt><dd>{p['in']}</dd>" for p in operation.get("parameters", ())]
    if "requestBody" in operation:
        rows.append(f"<dt>body</dt><dd>{_link(operation['requestBody'])}</dd>")
    rows += [f"<dt>{code}</dt><dd>{escape(a['description'])} {_link(a)}</dd>" for code, a in operation["responses"].items()]
    head = f"<h2><span class='method'>{method.upper()}</span> <code>{escape(path)}</code></h2>"
    return f"{head}<p>{escape(operation['summary'])}{open_to_all}</p><dl>{''.join(rows)}</dl>"


def _link(content: dict[str, Any]) -> str:
    if "content" not in content:
        return ""
    name = content["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    return f"<a href='#{escape(name)}'>{escape(name)}</a>"


def _text(schema: dict[str, Any]) -> str:
    return "\n".join(yaml_lines(schema))
