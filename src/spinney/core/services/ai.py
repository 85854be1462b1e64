"""``ai``: one question to a language model of OpenAI's or Anthropic's shape (Lunar contract 3.10)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple

import msgspec

from spinney.core.masking import mask_json
from spinney.core.services.asker import Asker, read_args, unknown_method
from spinney.core.services.ledger import Ledger
from spinney.core.services.provider import Provider, kept, read_response, to_json
from spinney.errors import Invalid, Unavailable
from spinney.model import AIRequest
from spinney.ports import Answer

TIMEOUT_S = 300.0
MAX_TOKENS = 1024
TOKENS_MAX = 1 << 53


class Options(msgspec.Struct):
    """What ``chat`` takes. ``messages`` is None when the function gave no table."""

    provider: Any = ""
    model: Any = ""
    messages: Any = None
    max_tokens: float | None = None
    temperature: float | None = None
    endpoint: Any = ""


class Message(msgspec.Struct):
    """A turn of the conversation."""

    role: str
    content: str


class Said(NamedTuple):
    """What a model answered, and what it counted."""

    content: str
    model: str
    input_tokens: int
    output_tokens: int


class _Fault(msgspec.Struct):
    message: str | None = None


class _Content(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Content | None = None


class _OpenAIUsage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _OpenAIResponse(msgspec.Struct):
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: _OpenAIUsage | None = None
    error: _Fault | None = None


class _Part(msgspec.Struct):
    type: str | None = None
    text: str | None = None


class _AnthropicUsage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None


class _AnthropicResponse(msgspec.Struct):
    model: str | None = None
    content: list[_Part] | None = None
    usage: _AnthropicUsage | None = None
    error: _Fault | None = None


class Shape(NamedTuple):
    """How a provider is asked and answers. ``variable``: begins the names of its variables."""

    variable: str
    endpoint: str
    path: str
    headers: Callable[[str], dict[str, str]]
    body: Callable[[str, Sequence[Message], int], dict[str, Any]]
    read: Callable[[bytes, str], Said]


def _openai_body(model: str, messages: Sequence[Message], max_tokens: int) -> dict[str, Any]:
    return {"model": model, "messages": messages, "max_tokens": max_tokens}


def _read_openai(body: bytes, model: str) -> Said:
    response = read_response(body, _OpenAIResponse)
    if response.error is not None:
        raise Unavailable(f"OpenAI API error: {response.error.message or ''}")
    if not response.choices:
        raise Unavailable("no response from OpenAI")
    usage = response.usage or _OpenAIUsage()
    message = response.choices[0].message or _Content()
    return Said(message.content or "", response.model or model, usage.prompt_tokens or 0, usage.completion_tokens or 0)


def _anthropic_body(model: str, messages: Sequence[Message], max_tokens: int) -> dict[str, Any]:
    system = [message.content for message in messages if message.role == "system"]
    turns = [message for message in messages if message.role != "system"]
    return {"model": model, "max_tokens": max_tokens, **({"system": system[-1]} if system else {}), "messages": turns}


def _read_anthropic(body: bytes, model: str) -> Said:
    response = read_response(body, _AnthropicResponse)
    if response.error is not None:
        raise Unavailable(f"anthropic API error: {response.error.message or ''}")
    if not response.content:
        raise Unavailable("no response from Anthropic")
    usage = response.usage or _AnthropicUsage()
    text = "".join(part.text or "" for part in response.content if part.type == "text")
    return Said(text, response.model or model, usage.input_tokens or 0, usage.output_tokens or 0)


SHAPES = {
    "openai": Shape(
        "OPENAI",
        "https://api.openai.com/v1",
        "/chat/completions",
        lambda key: {"Authorization": f"Bearer {key}"},
        _openai_body,
        _read_openai,
    ),
    "anthropic": Shape(
        "ANTHROPIC",
        "https://api.anthropic.com",
        "/v1/messages",
        lambda key: {"x-api-key": key, "anthropic-version": "2023-06-01"},
        _anthropic_body,
        _read_anthropic,
    ),
}

_decoder = msgspec.json.Decoder(Options)


class AI:
    """Asks models for functions, with the functions' own keys."""

    def __init__(self, provider: Provider, ledger: Ledger) -> None:
        self._provider = provider
        self._ledger = ledger

    def answer(self, asker: Asker, method: str, args: bytes, data: bytes) -> Coroutine[Any, Any, Answer]:
        """As ports.Services.answer."""
        if method != "chat":
            raise unknown_method("ai", method)
        return self._chat(asker, read_args(args, _decoder))

    async def _chat(self, asker: Asker, options: Options) -> Answer:
        messages = _check(options)
        known = {"provider": options.provider, "model": options.model, "endpoint": "", "request": ""}
        async with self._ledger.track(asker, AIRequest, **known) as row:
            said = await self._ask(asker, options, messages, row)
            row |= {"input_tokens": said.input_tokens, "output_tokens": said.output_tokens}
        usage = {"input_tokens": said.input_tokens, "output_tokens": said.output_tokens}
        return Answer({"content": said.content, "model": said.model, "usage": usage})

    async def _ask(self, asker: Asker, options: Options, messages: Sequence[Message], row: dict[str, Any]) -> Said:
        shape = SHAPES.get(options.provider)
        if shape is None:
            raise Invalid(f"unsupported provider: {options.provider} (use openai or anthropic)")
        key = await self._provider.variable(asker, f"{shape.variable}_API_KEY")
        if not key:
            raise Invalid(f"{shape.variable}_API_KEY not set in function environment")
        endpoint = _text(options.endpoint) or await self._provider.variable(asker, f"{shape.variable}_ENDPOINT") or shape.endpoint
        asked = shape.body(options.model, messages, _count(options.max_tokens))
        if options.temperature is not None and options.temperature > 0:
            asked["temperature"] = options.temperature
        url, body = endpoint.rstrip("/") + shape.path, to_json(asked)
        row |= {"endpoint": url, "request": mask_json(body)}
        response = await self._provider.post(url, shape.headers(key), body, TIMEOUT_S)
        row["response"] = kept(response.body)
        return shape.read(response.body, options.model)


def _check(options: Options) -> list[Message]:
    """Raises Invalid at the first thing that is missing."""
    if not (provider := _text(options.provider)):
        raise Invalid("provider is required (openai or anthropic)")
    if not (model := _text(options.model)):
        raise Invalid("model is required")
    if not isinstance(options.messages, list | dict):
        raise Invalid("messages is required and must be a table")
    options.provider, options.model = provider, model
    given = [one for one in options.messages if isinstance(one, dict)] if isinstance(options.messages, list) else []
    messages = [Message(_text(one.get("role")), _text(one.get("content"))) for one in given]
    messages = [message for message in messages if message.role and message.content]
    if not messages:
        raise Invalid("messages cannot be empty")
    return messages


def _count(max_tokens: float | None) -> int:
    return int(min(max_tokens, TOKENS_MAX)) if max_tokens and max_tokens >= 1 else MAX_TOKENS


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
