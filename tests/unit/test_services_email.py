"""``email.send`` against servers that answer as Resend does, also on their bad days."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.loopback import Answer, Site, never, opened, response, saying, telling
from tests.unit.services import Function, made_function, parsed

from spinney.core.services import email as email_module
from spinney.errors import Error, Invalid
from spinney.model import Status
from spinney.stores.sql import SqlStore

pytestmark = pytest.mark.anyio
SENT = {"id": "49a3999c-0ce1-4ea6-ab68-afcd6dc2e794"}
LEAST = {"from": "me@example.com", "to": "you@example.com", "subject": "Hi", "text": "Hello"}


@pytest.fixture
async def function(store: SqlStore) -> AsyncIterator[Function]:
    async with made_function(store) as function:
        yield function


async def send(function: Function, site: Site, base: str = "/", **options: Any) -> Any:
    await function.set(RESEND_API_KEY="re_key", RESEND_BASE_URL=site.url(base))
    return (await function.ask("email", "send", {**LEAST, **options})).value


async def test_the_least(function: Function) -> None:
    async with opened(telling(SENT)) as site:
        assert await send(function, site) == SENT
    (received,) = site.requests
    assert (received.method, received.target, received.headers["authorization"]) == ("POST", "/emails", "Bearer re_key")
    assert json.loads(received.body) == {**LEAST, "to": ["you@example.com"]}
    (row,) = await function.email_requests()
    assert (row.sender, row.recipients, row.subject) == ("me@example.com", ("you@example.com",), "Hi")
    assert (row.has_text, row.has_html, row.status, row.error) == (True, False, Status.SUCCESS, None)
    assert parsed(row.request) == json.loads(received.body)
    assert (row.response, row.email_id) == (json.dumps(SENT, separators=(",", ":")), SENT["id"])
    assert (row.function_id, row.execution_id, len(row.id)) == (function.id, "the-execution", 20)
    assert "re_key" not in repr(row)


async def test_everything(function: Function) -> None:
    options = {
        "to": ["a@example.com", "", "b@example.com", 7],
        "text": "",
        "html": "<p>Hello</p>",
        "cc": "c@example.com",
        "bcc": ["d@example.com"],
        "reply_to": "r@example.com",
        "headers": {"X-Entity-Ref-ID": "1", "Authorization": "Bearer x"},
        "tags": [{"name": "kind", "value": "test"}, {"name": "", "value": "x"}, {"value": "y"}, {"name": "bare"}, 7],
        "scheduled_at": 1735787045.9,
    }
    async with opened(telling(SENT)) as site:
        await send(function, site, "/v1", **options)
    (received,) = site.requests
    assert received.target == "/v1/emails"
    assert json.loads(received.body) == {
        "from": "me@example.com",
        "to": ["a@example.com", "b@example.com"],
        "subject": "Hi",
        "html": "<p>Hello</p>",
        "cc": ["c@example.com"],
        "bcc": ["d@example.com"],
        "reply_to": "r@example.com",
        "headers": {"X-Entity-Ref-ID": "1", "Authorization": "Bearer x"},
        "tags": [{"name": "kind", "value": "test"}, {"name": "bare", "value": ""}],
        "scheduled_at": "2025-01-02T03:04:05Z",
    }
    (row,) = await function.email_requests()
    assert (row.recipients, row.has_text, row.has_html) == (("a@example.com", "b@example.com"), False, True)
    assert parsed(row.request)["headers"] == {"X-Entity-Ref-ID": "1", "Authorization": "[REDACTED]"}


@pytest.mark.parametrize(
    ("given", "sent"), [("in 1 hour", "in 1 hour"), (0, "1970-01-01T00:00:00Z"), (-1, "1969-12-31T23:59:59Z")]
)
async def test_times(function: Function, given: object, sent: str) -> None:
    async with opened(telling(SENT)) as site:
        await send(function, site, scheduled_at=given)
    assert json.loads(site.requests[0].body)["scheduled_at"] == sent


NOT_RECIPIENTS = "to must be a string or table of strings"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": None}, "to is required"),
        ({"to": "", "from": ""}, "to is required"),
        ({"to": 7}, NOT_RECIPIENTS),
        ({"to": True}, NOT_RECIPIENTS),
        ({"to": []}, "to cannot be empty"),
        ({"to": {}}, "to cannot be empty"),
        ({"to": ["", 7]}, "to cannot be empty"),
        ({"from": "", "subject": ""}, "from is required"),
        ({"from": None}, "from is required"),
        ({"subject": "", "text": ""}, "subject is required"),
        ({"text": "", "html": ""}, "either text or html content is required"),
        ({"scheduled_at": 1e300}, "scheduled_at is out of range"),
    ],
)
async def test_what_is_missing(function: Function, options: dict[str, Any], message: str) -> None:
    with pytest.raises(Invalid) as caught:
        await function.ask("email", "send", {**LEAST, **options})
    assert caught.value.message == message
    assert await function.email_requests() == []


async def test_without_a_key(function: Function) -> None:
    with pytest.raises(Invalid, match=r"^RESEND_API_KEY not set in function environment$"):
        await function.ask("email", "send", LEAST)
    (row,) = await function.email_requests()
    assert (row.request, row.response, row.email_id, row.status) == ("", None, None, Status.ERROR)
    assert row.error == "RESEND_API_KEY not set in function environment"


REFUSED = {"statusCode": 422, "name": "validation_error", "message": "Invalid `to` field."}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (telling(REFUSED, 422), "[ERROR]: Invalid `to` field."),
        (telling({"message": "API key is invalid"}, 401), "[ERROR]: API key is invalid"),
        (telling({}, 500), "[ERROR]: Unknown Error"),
        (telling({"message": 7}, 500), "[ERROR]: Unknown Error"),
        (telling([], 429), "[ERROR]: Unknown Error"),
        (saying(response(b"<html>", status=503)), "[ERROR]: Unknown Error"),
        (saying(response(status=302, headers=(("Location", "http://127.0.0.1:1/"),))), "[ERROR]: Unknown Error"),
        (saying(response(b"OK")), "failed to parse response: "),
        (telling({"id": 7}), "failed to parse response: "),
        (saying(response(bytes((2 << 20) + 1))), "failed to read response body: response too large"),
        (saying(b"220 smtp.example.com ESMTP\r\n"), "HTTP request failed: "),
    ],
)
async def test_bad_days(function: Function, answer: Answer, message: str) -> None:
    async with opened(answer) as site:
        with pytest.raises(Error) as caught:
            await send(function, site)
        assert len(site.requests) == 1
    assert caught.value.message.startswith(message)
    (row,) = await function.email_requests()
    assert (row.status, row.error, row.response, row.email_id) == (Status.ERROR, caught.value.message, None, None)
    assert parsed(row.request)["subject"] == "Hi"


async def test_time_is_bounded(function: Function, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(email_module, "TIMEOUT_S", 0.2)
    async with opened(never) as site:
        with pytest.raises(Error, match=r"^HTTP request failed: no answer within 0\.2 s$"):
            await send(function, site)


async def test_the_policy_holds_here_too(function: Function) -> None:
    await function.set(RESEND_API_KEY="k", RESEND_BASE_URL="http://[::1]:25")
    with pytest.raises(Error, match=r"^HTTP request failed: destination not allowed: ::1$"):
        await function.ask("email", "send", LEAST)


async def test_other_methods(function: Function) -> None:
    with pytest.raises(Invalid, match=r"^email has no method 'receive'$"):
        await function.ask("email", "receive")
