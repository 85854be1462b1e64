"""Lua states: each is made for one run, with the library in it and nothing that leads to Python but one function.

lupa converts what crosses the border; here only strings, numbers and booleans do. A program that fills its memory must not make
lupa push a value for which there is no room: the VM would jump over Python's frames.
"""

from __future__ import annotations

import os
import re

from lupa.luajit21 import LuaRuntime  # type: ignore[import-untyped]

TYPE_CHECKING = False
if TYPE_CHECKING:  # the typing module would only cost start-up time here
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

    Value = str | bytes | float | bool | None

LIBRARY = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "library")
TABLES = ("json", "log", "kv", "env", "http", "ai", "email", "base64", "crypto", "time", "random", "strings", "url", "router")
NEEDS = {
    "env": ("kv",),
    "http": ("json",),
    "ai": ("json",),
    "email": ("json",),
    "error": ("json",),  # an error may be a table, which is shown as JSON
    "assert": ("json",),
}
"""Files that a word in a program asks for besides its own."""

EVERYTHING = {"_G", "getfenv", "setfenv", "load", "loadstring", "require", "package"}
"""A program in which none of these words stands cannot reach a library table but by its name."""

WORD = re.compile(rb"[A-Za-z_]\w*")
ROOM_BYTES = 1 << 16
"""What the VM may need around a value that is pushed."""

_DUMP = b"""
local dump, load = string.dump, load
return function(source, name, strip)
  local chunk, fault = load(source, name, "t")
  if not chunk then return nil, fault end
  return dump(chunk, strip)
end
"""


def compile_chunk(source: bytes, name: bytes, *, strip: bool = False) -> tuple[bytes, bytes]:
    """Source text as bytecode, or b"" and why not."""
    code, fault = _new_state(0).execute(_DUMP)(source, name, strip), b""
    if isinstance(code, tuple):
        code, fault = code
    return code or b"", fault


def find_tables(source: bytes) -> list[str]:
    """The library tables that a program can reach: making the others would only cost each call time."""
    words = {word.decode() for word in WORD.findall(source)}
    if words & EVERYTHING:
        return list(TABLES)
    needed = words.union(*(NEEDS[word] for word in words & NEEDS.keys()))
    return [name for name in TABLES if name in needed]


def compile_library(tables: Sequence[str] = TABLES) -> bytes:
    """These tables of the library, and what each state needs, as one chunk of bytecode.

    Called with the host function, a program's bytecode and the kilobytes that the state may hold it returns ``run``.
    """
    parts = ["collectgarbage('stop'); local host, program, limit_kb = ...; local core, libraries = {}, {}"]
    parts.append(_body("core", "core, host"))
    for name in tables:
        parts.append(f"libraries.{name} = {_body(name, 'core')}")
    parts.append(f"local run = {_body('run', 'core, program')}")
    parts.append(f"local globals = {_body('globals', 'core')}")
    parts.append(_body("memory", "core, limit_kb"))
    parts.append(_new_state(0).execute(_read("prune")).decode())
    parts.append("globals.install(libraries)")
    parts.append("return run")
    code, fault = compile_chunk(";".join(parts).encode(), b"=[lua]", strip=True)
    if not code:
        raise SyntaxError(fault.decode())
    return code


def _body(name: str, arguments: str) -> str:
    return f"(function(...)\n{_read(name)}\nend)({arguments})"


def _read(name: str) -> str:
    with open(os.path.join(LIBRARY, f"{name}.lua"), encoding="utf-8") as file:
        return file.read()


class State:
    """One Lua state with a program in it that has not run yet.

    answer: what the program's questions are answered by, ``answer(name, *arguments)``; must not raise.
    memory_bytes: the most that the state may hold.
    """

    __slots__ = ("_answer", "_lua", "_run")

    def __init__(self, library: bytes, program: bytes, memory_bytes: int, answer: Callable[..., Any]) -> None:
        self._answer = answer
        self._lua = _new_state(memory_bytes)
        self._run = self._lua.execute(library, self._ask, program, memory_bytes >> 10, name="=[lua]")

    def run(self, *arguments: Value) -> tuple[Any, ...]:
        """Run the program to its end and close the state; what it answers. Can be called once. Raises MemoryError."""
        try:
            return self._run(*arguments)  # type: ignore[no-any-return]
        finally:
            self._lua.set_max_memory(0)  # giving up what Python holds takes some, and the VM ends the process where it gets none
            del self._lua, self._run

    def _ask(self, name: bytes, *arguments: Value) -> Any:
        answer = self._answer(name, *arguments)
        parts = answer if isinstance(answer, tuple) else (answer,)
        size = sum(len(part) for part in parts if isinstance(part, bytes))
        lua = self._lua
        return False if lua.get_memory_used() + size + ROOM_BYTES > lua.get_max_memory() else answer


def _new_state(memory_bytes: int) -> LuaRuntime:
    """0: without a limit."""
    return LuaRuntime(
        encoding=None,
        register_eval=False,
        register_builtins=False,
        attribute_handlers=(_refuse, _refuse),
        unpack_returned_tuples=True,
        max_memory=memory_bytes,
    )


def _refuse(*arguments: object) -> NoReturn:
    raise AttributeError
