"""``email``: one message by a service of Resend's shape (Lunar contract 3.10)."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

import msgspec

from spinney.core.masking import mask_json
from spinney.core.services.asker import Asker, read_args, unknown_method
from spinney.core.services.ledger import Ledger
from spinney.core.services.provider import Provider, read_response, to_json
from spinney.errors import Invalid, Unavailable
from spinney.model import EmailRequest
from spinney.ports import Answer

BASE_URL = "https://api.resend.com"
TIMEOUT_S = 60.0


class Options(msgspec.Struct):
    """What ``send`` takes, as the function gave it."""

    to: Any = None
    sender: Any = msgspec.field(name="from", default="")
    subject: Any = ""
    text: Any = ""
    html: Any = ""
    cc: Any = None
    bcc: Any = None
    reply_to: Any = None
    headers: Any = None
    tags: Any = None
    scheduled_at: Any = None


class _Sent(msgspec.Struct):
    id: str | None = None


class _Fault(msgspec.Struct):
    message: str | None = None


_decoder = msgspec.json.Decoder(Options)


class Email:
    """Sends mail for functions, with the functions' own keys."""

    def __init__(self, provider: Provider, ledger: Ledger) -> None:
        self._provider = provider
        self._ledger = ledger

    def answer(self, asker: Asker, method: str, args: bytes, data: bytes) -> Coroutine[Any, Any, Answer]:
        """As ports.Services.answer."""
        if method != "send":
            raise unknown_method("email", method)
        return self._send(asker, _message(read_args(args, _decoder)))

    async def _send(self, asker: Asker, message: dict[str, Any]) -> Answer:
        known = {
            "sender": message["from"],
            "recipients": tuple(message["to"]),
            "subject": message["subject"],
            "has_text": "text" in message,
            "has_html": "html" in message,
            "request": "",
        }
        async with self._ledger.track(asker, EmailRequest, **known) as row:
            row["email_id"] = email_id = await self._deliver(asker, message, row)
        return Answer({"id": email_id})

    async def _deliver(self, asker: Asker, message: dict[str, Any], row: dict[str, Any]) -> str:
        key = await self._provider.variable(asker, "RESEND_API_KEY")
        if not key:
            raise Invalid("RESEND_API_KEY not set in function environment")
        base = await self._provider.variable(asker, "RESEND_BASE_URL") or BASE_URL
        body = to_json(message)
        row["request"] = mask_json(body)
        url = base.rstrip("/") + "/emails"
        response = await self._provider.post(url, {"Authorization": f"Bearer {key}"}, body, TIMEOUT_S)
        if not 200 <= response.status < 300:
            raise Unavailable(f"[ERROR]: {_reason(response.body)}")
        email_id = read_response(response.body, _Sent).id or ""
        row["response"] = to_json({"id": email_id})
        return email_id


def _reason(body: bytes) -> str:
    try:
        return read_response(body, _Fault).message or "Unknown Error"
    except Unavailable:
        return "Unknown Error"


def _message(options: Options) -> dict[str, Any]:
    """What is sent. Raises Invalid at the first thing that is missing or wrong."""
    message: dict[str, Any] = {"from": _text(options.sender), "to": _recipients(options.to), "subject": _text(options.subject)}
    if not message["from"]:
        raise Invalid("from is required")
    if not message["subject"]:
        raise Invalid("subject is required")
    contents = {"text": _text(options.text), "html": _text(options.html)}
    if not any(contents.values()):
        raise Invalid("either text or html content is required")
    given = {
        **contents,
        "cc": _texts(options.cc),
        "bcc": _texts(options.bcc),
        "reply_to": _reply_to(options.reply_to),
        "headers": {str(name): _text(value) for name, value in options.headers.items()}
        if isinstance(options.headers, dict)
        else {},
        "tags": _tags(options.tags),
        "scheduled_at": _scheduled_at(options.scheduled_at),
    }
    return message | {name: value for name, value in given.items() if value}


def _recipients(to: Any) -> list[str]:
    if to is None or to == "":
        raise Invalid("to is required")
    if not isinstance(to, str | list | dict):
        raise Invalid("to must be a string or table of strings")
    recipients = _texts(to)
    if not recipients:
        raise Invalid("to cannot be empty")
    return recipients


def _texts(value: Any) -> list[str]:
    """One text or many, without what is empty or none."""
    return [text for text in (value if isinstance(value, list) else [value]) if _text(text)]


def _reply_to(value: Any) -> Any:
    return _text(value) or _texts(value if isinstance(value, list) else [])


def _tags(value: Any) -> list[dict[str, str]]:
    tags = [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
    return [{"name": _text(tag.get("name")), "value": _text(tag.get("value"))} for tag in tags if _text(tag.get("name"))]


def _scheduled_at(value: Any) -> str:
    """A text as it is, or seconds since the epoch as the time that they are."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return _text(value)
    try:
        return datetime.fromtimestamp(int(value), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        raise Invalid("scheduled_at is out of range") from None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
