"""A bare Lua guest with a program in it, and services that answer it from memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.unit.guests import loaded_guest

from spinney.model import Call, Outcome, Reply
from spinney.ports import Services
from spinney.runtimes.lua import LuaRuntime
from spinney.testing.guest_process import GuestProcess

CONTEXT = {"functionId": "f1", "functionName": "hello", "version": "3", "requestId": "", "baseUrl": "http://localhost:8080/lunar"}
META = {"method": "POST", "path": "/fn/f1/a", "relativePath": "/a", "headers": [], "query": [], "ctx": CONTEXT}


class Program:
    """A guest that has loaded a program."""

    def __init__(self, guest: GuestProcess, services: Services | None) -> None:
        self.guest = guest
        self.services = services

    def call(self, body: bytes | str = b"", *, id: str = "e1", timeout_s: float = 20.0, **meta: Any) -> Reply:
        """``meta``: fields that differ from the usual ones."""
        text = body.encode() if isinstance(body, str) else body
        call = Call(id, text, timeout_s, json.dumps({**META, **meta}).encode())
        return self.guest.invoke(call, timeout_s, self.services)


@contextmanager
def program(source: str, services: Services | None = None, **fields: Any) -> Iterator[Program]:
    """``fields`` are further ones of the version, or ``chunk_bytes``."""
    with loaded_guest(LuaRuntime(), "lua", source, handler="", **fields) as guest:
        yield Program(guest, services)


def run(source: str, body: bytes | str = b"", services: Services | None = None, **meta: Any) -> Reply:
    """One call of a whole program."""
    with program(source, services) as loaded:
        return loaded.call(body, **meta)


EVALUATOR = """
local function pack(...) return { n = select("#", ...), ... } end
function handler(ctx, event)
  local chunk, fault = loadstring("local ctx, event = ... " .. event.body, "=<string>")
  if not chunk then error(fault, 0) end
  local values = pack(chunk(ctx, event))
  for index = 1, values.n do
    if values[index] == nil then values[index] = "nil" end
  end
  values.n = nil
  return { body = values[1] == nil and "[]" or json.encode(values) }
end
"""
"""Runs its body, and answers all that it returns; nil is shown as a text."""


def value(reply: Reply) -> Any:
    assert reply.outcome is Outcome.OK, reply
    return json.loads(reply.body)


class Evaluator(Program):
    """A guest that runs any lines."""

    def __call__(self, lines: str, **meta: Any) -> Any:
        """What they return: the value when it is one, else all."""
        values = value(self.call(lines, **meta))
        return values[0] if len(values) == 1 else values

    def fails(self, lines: str) -> str:
        """The message that they fail with, without the trace."""
        reply = self.call(lines)
        assert reply.outcome is Outcome.ERROR, reply
        return reply.message.partition("\nstack traceback:")[0]


@contextmanager
def evaluator(services: Services | None = None) -> Iterator[Evaluator]:
    with loaded_guest(LuaRuntime(), "lua", EVALUATOR, handler="") as guest:
        yield Evaluator(guest, services)
