"""``ai.chat`` against servers that answer as OpenAI and Anthropic do, also on their bad days."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.loopback import Answer, Received, Site, never, opened, response, saying, telling
from tests.unit.services import Function, made_function, parsed

from spinney.core.services import ai as ai_module
from spinney.core.services import ledger as ledger_module
from spinney.core.services.provider import RESPONSE_BYTES_KEPT
from spinney.errors import Busy, Error, Invalid, Unavailable
from spinney.model import Execution, Status
from spinney.model import Function as FunctionNoun
from spinney.ports import WebRequest, WebResponse
from spinney.stores.sql import SqlStore
from spinney.testing.store_suite import make_execution, texts

pytestmark = pytest.mark.anyio

OPENAI = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello!"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21},
}
ANTHROPIC = {
    "id": "msg_1",
    "type": "message",
    "model": "claude-x",
    "content": [{"type": "text", "text": "Hel"}, {"type": "tool_use", "id": "t"}, {"type": "text", "text": "lo!"}],
    "usage": {"input_tokens": 10, "output_tokens": 25},
}
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "system", "content": "Shorter."},
]


@pytest.fixture
async def function(store: SqlStore) -> AsyncIterator[Function]:
    async with made_function(store) as function:
        yield function


async def chat(function: Function, site: Site, provider: str = "openai", **options: Any) -> Any:
    await function.set(OPENAI_API_KEY="sk-openai-key", ANTHROPIC_API_KEY="sk-ant-key")
    given = {"provider": provider, "model": "m", "messages": MESSAGES, "endpoint": site.url("/base"), **options}
    return (await function.ask("ai", "chat", given)).value


async def test_openai(function: Function) -> None:
    async with opened(telling(OPENAI)) as site:
        said = await chat(function, site, temperature=0.5, max_tokens=7)
    assert said == {"content": "Hello!", "model": "gpt-4o-2024-08-06", "usage": {"input_tokens": 9, "output_tokens": 12}}
    (received,) = site.requests
    assert (received.method, received.target) == ("POST", "/base/chat/completions")
    assert received.headers["authorization"] == "Bearer sk-openai-key"
    assert received.headers["content-type"] == "application/json"
    assert json.loads(received.body) == {"model": "m", "messages": MESSAGES, "max_tokens": 7, "temperature": 0.5}
    (row,) = await function.ai_requests()
    assert (row.provider, row.model, row.endpoint) == ("openai", "m", site.url("/base/chat/completions"))
    assert (row.status, row.error, row.input_tokens, row.output_tokens) == (Status.SUCCESS, None, 9, 12)
    assert parsed(row.request) == json.loads(received.body)
    assert list(parsed(row.request)) == sorted(parsed(row.request))
    assert parsed(row.response) == OPENAI
    assert (row.function_id, row.execution_id, len(row.id)) == (function.id, "the-execution", 20)
    assert row.duration_ms >= 0
    assert "sk-openai-key" not in repr(row)


async def test_anthropic(function: Function) -> None:
    async with opened(telling(ANTHROPIC)) as site:
        said = await chat(function, site, "anthropic", temperature=0)
    assert said == {"content": "Hello!", "model": "claude-x", "usage": {"input_tokens": 10, "output_tokens": 25}}
    (received,) = site.requests
    assert received.target == "/base/v1/messages"
    assert (received.headers["x-api-key"], received.headers["anthropic-version"]) == ("sk-ant-key", "2023-06-01")
    assert "authorization" not in received.headers
    assert json.loads(received.body) == {"model": "m", "max_tokens": 1024, "system": "Shorter.", "messages": MESSAGES[1:2]}
    (row,) = await function.ai_requests()
    assert (row.provider, row.status, row.input_tokens, row.output_tokens) == ("anthropic", Status.SUCCESS, 10, 25)


class NamedOnly:
    """A Web that only says where it was sent."""

    def __init__(self) -> None:
        self.urls: list[str] = []

    async def fetch(self, request: WebRequest) -> WebResponse:
        self.urls.append(request.url)
        raise Unavailable("HTTP request failed: not today")

    async def close(self) -> None:
        pass


async def test_where_it_goes_by_itself(store: SqlStore) -> None:
    web = NamedOnly()
    async with made_function(store, web) as function:
        for variables in ({}, {"OPENAI_ENDPOINT": "http://own/v1/", "ANTHROPIC_ENDPOINT": "http://own"}):
            await function.set(OPENAI_API_KEY="k", ANTHROPIC_API_KEY="k", **variables)
            for provider in ("openai", "anthropic"):
                for endpoint in ("", "http://other/"):
                    with pytest.raises(Unavailable, match=r"^HTTP request failed: not today$"):
                        options = {"provider": provider, "model": "m", "messages": MESSAGES, "endpoint": endpoint}
                        await function.ask("ai", "chat", options)
    openai, anthropic = "/chat/completions", "/v1/messages"
    assert web.urls == [
        *(f"https://api.openai.com/v1{openai}", f"http://other{openai}"),
        *(f"https://api.anthropic.com{anthropic}", f"http://other{anthropic}"),
        *(f"http://own/v1{openai}", f"http://other{openai}", f"http://own{anthropic}", f"http://other{anthropic}"),
    ]


NO_PROVIDER = "provider is required (openai or anthropic)"
NO_MESSAGES = "messages is required and must be a table"


@pytest.mark.parametrize(
    ("options", "message", "recorded"),
    [
        ({}, NO_PROVIDER, False),
        ({"provider": 7, "model": ""}, NO_PROVIDER, False),
        ({"provider": "x"}, "model is required", False),
        ({"provider": "x", "model": "m"}, NO_MESSAGES, False),
        ({"provider": "x", "model": "m", "messages": "hi"}, NO_MESSAGES, False),
        ({"provider": "x", "model": "m", "messages": []}, "messages cannot be empty", False),
        ({"provider": "x", "model": "m", "messages": {"role": "user"}}, "messages cannot be empty", False),
        (
            {"provider": "x", "model": "m", "messages": [{"role": "user"}, 7, {"role": "", "content": "a"}]},
            "messages cannot be empty",
            False,
        ),
        ({"provider": "x", "model": "m", "messages": MESSAGES}, "unsupported provider: x (use openai or anthropic)", True),
        ({"provider": "openai", "model": "m", "messages": MESSAGES}, "OPENAI_API_KEY not set in function environment", True),
        (
            {"provider": "anthropic", "model": "m", "messages": MESSAGES},
            "ANTHROPIC_API_KEY not set in function environment",
            True,
        ),
    ],
)
async def test_what_is_missing(function: Function, options: dict[str, Any], message: str, recorded: bool) -> None:
    with pytest.raises(Invalid) as caught:
        await function.ask("ai", "chat", options)
    assert caught.value.message == message
    rows = await function.ai_requests()
    assert [(row.provider, row.model, row.endpoint, row.request, row.response, row.status, row.error) for row in rows] == (
        [(options["provider"], "m", "", "", None, Status.ERROR, message)] if recorded else []
    )


ERROR = {"error": {"message": "You exceeded your current quota", "type": "insufficient_quota", "code": None}}
ANTHROPIC_ERROR = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


@pytest.mark.parametrize(
    ("provider", "answer", "message"),
    [
        ("openai", telling(ERROR, 429), "OpenAI API error: You exceeded your current quota"),
        ("openai", telling(ERROR), "OpenAI API error: You exceeded your current quota"),
        ("openai", telling({"choices": []}), "no response from OpenAI"),
        ("openai", telling({}, 500), "no response from OpenAI"),
        ("anthropic", telling(ANTHROPIC_ERROR, 529), "anthropic API error: Overloaded"),
        ("anthropic", telling({"content": []}), "no response from Anthropic"),
        ("anthropic", telling({"content": None}), "no response from Anthropic"),
        ("openai", saying(response(b"<html>502 Bad Gateway</html>", status=502)), "failed to parse response: "),
        ("openai", saying(response(b"")), "failed to parse response: "),
        ("openai", saying(response(b"\xff\xfe")), "failed to parse response: "),
        ("openai", saying(response(b"[" * 100_000)), "failed to parse response: "),
        ("openai", telling([1]), "failed to parse response: "),
        ("openai", telling({"choices": "x"}), "failed to parse response: "),
        ("openai", telling({"choices": [{"message": {"content": 7}}]}), "failed to parse response: "),
        ("openai", telling({"error": "x"}), "failed to parse response: "),
        ("anthropic", telling({"content": [{"type": "text", "text": {}}]}), "failed to parse response: "),
        ("anthropic", telling({"content": [7]}), "failed to parse response: "),
        ("openai", saying(response(b" " * (2 << 20) + b"{}")), "failed to read response body: response too large"),
        ("openai", saying(b"no HTTP"), "HTTP request failed: "),
        ("openai", saying(response(status=307, headers=(("Location", "http://127.0.0.1:1/"),))), "failed to parse response: "),
    ],
)
async def test_bad_days(function: Function, provider: str, answer: Answer, message: str) -> None:
    async with opened(answer) as site:
        with pytest.raises(Error) as caught:
            await chat(function, site, provider)
        assert len(site.requests) == 1
    assert caught.value.message.startswith(message)
    (row,) = await function.ai_requests()
    assert (row.status, row.error, row.input_tokens) == (Status.ERROR, caught.value.message, None)
    assert row.request and row.endpoint


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"choices": [{}]}, {"content": "", "model": "m", "usage": {"input_tokens": 0, "output_tokens": 0}}),
        (
            {"choices": [{"message": {"content": None}}], "usage": None, "error": None, "model": None},
            {"content": "", "model": "m", "usage": {"input_tokens": 0, "output_tokens": 0}},
        ),
        (
            {"choices": [{"message": {"content": "x"}}, {"message": {"content": "y"}}], "usage": {"prompt_tokens": 1}},
            {"content": "x", "model": "m", "usage": {"input_tokens": 1, "output_tokens": 0}},
        ),
    ],
)
async def test_what_models_leave_out(function: Function, answer: object, said: object) -> None:
    async with opened(telling(answer)) as site:
        assert await chat(function, site) == said


async def test_numbers(function: Function) -> None:
    async with opened(telling(OPENAI)) as site:
        for given, sent in ((None, 1024), (0, 1024), (-5, 1024), (7.9, 7), (1e300, 1 << 53)):
            await chat(function, site, max_tokens=given, temperature=-1)
            assert json.loads(site.requests[-1].body)["max_tokens"] == sent
            assert "temperature" not in json.loads(site.requests[-1].body)


async def test_secrets_are_not_kept(function: Function) -> None:
    leaky = {**OPENAI, "api_key": "sk-1", "nested": [{"token": {"value": "sk-2"}}]}
    async with opened(telling(leaky)) as site:
        await chat(function, site)
    (row,) = await function.ai_requests()
    assert row.response is not None
    assert "sk-" not in row.response
    assert parsed(row.response)["usage"]["completion_tokens"] == 12


async def test_large_answers_are_not_kept(function: Function) -> None:
    large = {**OPENAI, "choices": [{"message": {"content": "x" * RESPONSE_BYTES_KEPT}}]}
    async with opened(telling(large)) as site:
        assert len((await chat(function, site))["content"]) == RESPONSE_BYTES_KEPT
    (row,) = await function.ai_requests()
    assert row.response is not None and row.response.startswith("[NOT KEPT - ")


async def test_time_is_bounded(function: Function, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ai_module, "TIMEOUT_S", 0.2)
    async with opened(never) as site:
        with pytest.raises(Error, match=r"^HTTP request failed: no answer within 0\.2 s$"):
            await chat(function, site)


async def test_keys_do_not_follow_redirects(function: Function) -> None:
    async with opened(telling(OPENAI)) as thief:
        there = saying(response(status=307, headers=(("Location", thief.url()),)))
        async with opened(there) as site:
            with pytest.raises(Error):
                await chat(function, site, "anthropic")
        assert thief.connections == 0


async def test_the_policy_holds_here_too(function: Function) -> None:
    await function.set(OPENAI_API_KEY="k", OPENAI_ENDPOINT="http://169.254.169.254")
    with pytest.raises(Error, match=r"^HTTP request failed: destination not allowed: 169\.254\.169\.254$"):
        await function.ask("ai", "chat", {"provider": "openai", "model": "m", "messages": MESSAGES})


async def test_a_key_that_is_no_header(function: Function) -> None:
    await function.set(OPENAI_API_KEY="k\r\nX-Evil: 1", OPENAI_ENDPOINT="http://127.0.0.1:1")
    with pytest.raises(Error, match=r"^failed to create request: "):
        await function.ask("ai", "chat", {"provider": "openai", "model": "m", "messages": MESSAGES})


# -- rows --------------------------------------------------------------------------------------------------------------


async def test_a_call_that_ends_meanwhile_leaves_a_row(function: Function) -> None:
    arrived = asyncio.Event()

    async def wait(received: Received, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await never(received, writer)

    async with opened(wait) as site:
        asking = asyncio.create_task(chat(function, site))
        await arrived.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert asking.cancelled()
        (row,) = await function.ai_requests()
        assert (row.status, row.error) == (Status.ERROR, "the execution ended before the answer")


async def test_rows_come_in_pages_newest_first(function: Function) -> None:
    for number in range(5):
        with pytest.raises(Invalid):
            await function.ask("ai", "chat", {"provider": f"p{number}", "model": "m", "messages": MESSAGES})
    rows = await function.ai_requests()
    assert [row.provider for row in rows] == ["p4", "p3", "p2", "p1", "p0"]
    page, total = await function.ledger.find(type(rows[0]), function.call.id, limit=2, offset=1)
    assert (page, total) == (rows[1:3], 5)


async def test_a_loop_does_not_fill_the_store(function: Function, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "ROWS_MAX", 3)
    asked = {"provider": "x", "model": "m", "messages": MESSAGES}
    for expected in (Invalid, Invalid, Invalid, Busy, Busy):
        with pytest.raises(expected):
            await function.ask("ai", "chat", asked)
    assert len(await function.ai_requests()) == 3
    function.begin()
    with pytest.raises(Invalid):
        await function.ask("ai", "chat", asked)


async def test_rows_go_with_their_executions(store: SqlStore, function: Function) -> None:
    execution = make_execution(function.target.function, id="the-execution")
    store.write_executions(texts([execution]))
    with pytest.raises(Invalid):
        await function.ask("ai", "chat", {"provider": "x", "model": "m", "messages": MESSAGES})
    assert len(await function.ai_requests()) == 1
    await store.prune_executions(function.id, 0)
    assert await store.get(Execution, execution.id) is None
    assert await function.ai_requests() == []


async def test_rows_go_with_their_function_and_do_not_come_back(store: SqlStore, function: Function) -> None:
    asked = {"provider": "x", "model": "m", "messages": MESSAGES}
    with pytest.raises(Invalid):
        await function.ask("ai", "chat", asked)
    await store.delete(FunctionNoun, function.id)
    assert await function.ai_requests() == []
    with pytest.raises(Invalid, match="unsupported provider"):
        await function.ask("ai", "chat", asked)
    assert await function.ai_requests() == []


async def test_other_methods(function: Function) -> None:
    with pytest.raises(Invalid, match=r"^ai has no method 'embed'$"):
        await function.ask("ai", "embed")
