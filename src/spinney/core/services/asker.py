"""Who asks: what a service knows of the call that asks it for something."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol, TypeVar

import msgspec

from spinney.errors import Invalid
from spinney.model import Function
from spinney.ports import Answer, Scope

Args = TypeVar("Args")


class Asker(msgspec.Struct):
    """A running call. ``requests``: how many of its requests have left a record."""

    function: Function
    execution_id: str
    requests: int = 0

    @property
    def environment(self) -> Scope:
        """Where its function's variables are."""
        return Scope("environment", self.function.id)


class Service(Protocol):
    """One of the things that the host does for functions."""

    def answer(self, asker: Asker, method: str, args: bytes, data: bytes) -> Answer | Awaitable[Answer]:
        """As ports.Services.answer."""


def read_args(args: bytes, decoder: msgspec.json.Decoder[Args]) -> Args:
    """The arguments of a request. Raises Invalid when they are not what the method takes."""
    try:
        return decoder.decode(args)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Invalid("invalid arguments") from None


def unknown_method(service: str, method: str) -> Invalid:
    return Invalid(f"{service} has no method '{method[:50]}'")
