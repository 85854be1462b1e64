"""Drivers without sandboxes, for tests: a Python function stands in for the guest. Some misbehave, each in its name's way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from spinney.errors import Error, StartFailed, Unsupported
from spinney.model import Call, LogLine, Outcome, Reply, ResourceUsage
from spinney.ports import Answer, Command, Driver, Features, Load, Process, Sandbox, SandboxSpec, Services

SEGMENTATION_FAULT = 139


class Exit(Exception):
    """Raised by a fake guest to end its sandbox before it has answered."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exit {code}")
        self.code = code


class FakeSandbox:
    """A Sandbox (see ports); ``memory`` is a fake guest's to keep things in between calls."""

    def __init__(self, spec: SandboxSpec, guest: Guest, forget: Callable[[str], None]) -> None:
        self.id = spec.id
        self.memory: dict[str, Any] = {}
        self.loaded: Load | None = None
        self._log_bytes = spec.limits.log_bytes
        self._logged = spec.launch.pipes_are_logs
        self._guest = guest
        self._forget = forget
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._lines: list[LogLine] = []
        self._call: Call | None = None
        self._services: Services | None = None

    may_send_ahead = False

    def load(self, load: Load) -> None:
        self.loaded = load

    def log(self, level: str, text: str) -> None:
        """What a fake guest writes to its pipes."""
        if not self._logged:
            return
        self._lines += [LogLine(level, line.rstrip("\r")) for line in text.split("\n") if line.strip()]

    async def ask(self, service: str, method: str, args: object = None, data: bytes = b"") -> Answer:
        """What a fake guest asks of the host."""
        if self._services is None or self._call is None:
            raise Exit(0)
        answer = self._services.answer(self._call, service, method, json.dumps(args or {}).encode(), data)
        return answer if isinstance(answer, Answer) else await answer

    async def call(self, call: Call, deadline: float, services: Services | None = None) -> Reply:
        self._lines, self._call, self._services = [], call, services
        reply = await self._answer(call, deadline)
        self._cut(reply)
        return reply

    async def _answer(self, call: Call, deadline: float) -> Reply:
        if self._ended.done():
            return Reply(Outcome.NOT_RUN)
        loop = asyncio.get_running_loop()
        started = loop.time()
        work = asyncio.ensure_future(self._guest(self, call))
        await asyncio.wait((work, self._ended), timeout=deadline - started, return_when=asyncio.FIRST_COMPLETED)
        duration_s = loop.time() - started
        if not work.done():
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            outcome = Outcome.EXITED if self._ended.done() else Outcome.TIMEOUT
            return Reply(outcome, exit_code=self.end(137), duration_s=duration_s)
        try:
            return Reply(Outcome.OK, work.result(), duration_s=duration_s, reusable=True)
        except Exit as exit_:
            return Reply(Outcome.EXITED, exit_code=self.end(exit_.code), duration_s=duration_s)
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            return Reply(Outcome.ERROR, message=message, duration_s=duration_s, reusable=True)

    def _cut(self, reply: Reply) -> None:
        left, kept = self._log_bytes, []
        for line in self._lines:
            raw = line.text.encode()
            if left <= 0:
                reply.logs_truncated = True
                break
            kept.append(LogLine(line.level, raw[:left].decode(errors="ignore")))
            reply.logs_truncated = len(raw) > left
            left -= len(raw) + 1
        reply.logs = kept

    def end(self, code: int) -> int:
        """End it, unless it has ended; its exit code."""
        if not self._ended.done():
            self._ended.set_result(code)
        return self._ended.result()

    async def exec(self, command: Command) -> Process:
        raise Unsupported("a fake sandbox has no processes")

    async def poll(self) -> int | None:
        return self._ended.result() if self._ended.done() else None

    def usage(self) -> ResourceUsage:
        return ResourceUsage()

    def state(self) -> dict[str, Any]:
        return {"id": self.id}

    async def close(self) -> None:
        self.end(137)
        self._forget(self.id)


Guest = Callable[[FakeSandbox, Call], Awaitable[bytes]]
"""Answers a call with the body of its result; an exception is the handler's failure, ``Exit`` the end of the sandbox."""


async def echo(sandbox: FakeSandbox, call: Call) -> bytes:
    """The guest that gives back what it gets."""
    return call.body


async def answer_suite(sandbox: FakeSandbox, call: Call) -> bytes:
    """The guest for the driver suite: those abilities of ``spinney.testing.guest`` that make sense without a process."""
    request = json.loads(call.body)
    match request:
        case {"do": "echo", "value": value}:
            pass
        case {"do": "remember", "value": new}:
            value, sandbox.memory["remembered"] = sandbox.memory.get("remembered"), new
        case {"do": "payload"}:
            value = json.loads(sandbox.loaded.payload) if sandbox.loaded else None
        case {"do": "write"}:
            sandbox.log("info", request.get("stdout", ""))
            sandbox.log("warn", request.get("stderr", ""))
            if "leave" in request:
                raise Exit(request["leave"])
            value = None
        case {"do": "die", "number": number}:
            raise Exit(128 + number)
        case {"do": "ask", "requests": requests}:
            value = await asyncio.gather(*(_ask(sandbox, **asked) for asked in requests))
        case {"do": "hang"}:
            await asyncio.get_running_loop().create_future()
        case _:
            raise RuntimeError(request.get("message", "unknown"))
    return json.dumps(value).encode()


async def _ask(sandbox: FakeSandbox, service: str, method: str = "", args: object = None, size: int = 0) -> dict[str, object]:
    try:
        answer = await sandbox.ask(service, method, args, b"x" * size)
    except Error as error:
        return {"error": error.message, "bytes": 0}
    return {"ok": answer.value, "bytes": len(answer.data)}


class FakeDriver:
    """A Driver (see ports) whose sandboxes live in this process and cost nothing."""

    def __init__(self, guest: Guest = echo) -> None:
        self.name = "fake"
        self.features = Features(tier="fake", limits_memory=False, limits_cpu=False, limits_pids=False)
        self.sandboxes: dict[str, FakeSandbox] = {}
        self.created = 0
        self._guest = guest

    async def create(self, spec: SandboxSpec) -> Sandbox:
        if spec.id in self.sandboxes:
            raise StartFailed("the sandbox has no name of its own")
        self.created += 1
        sandbox = FakeSandbox(spec, self._guest, self._forget)
        self.sandboxes[spec.id] = sandbox
        return sandbox

    def _forget(self, name: str) -> None:
        self.sandboxes.pop(name, None)

    async def attach(self, state: Mapping[str, Any]) -> Sandbox | None:
        return self.sandboxes.get(state["id"])

    async def sweep(self, keep: Collection[str]) -> int:
        return 0

    def memory_bytes(self) -> int:
        return 0

    async def close(self) -> None:
        for sandbox in list(self.sandboxes.values()):
            await sandbox.close()


class Wrapper:
    """A Driver that does what another does; those below change one thing."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.name = driver.name
        self.features = driver.features

    async def create(self, spec: SandboxSpec) -> Sandbox:
        return await self._driver.create(spec)

    async def attach(self, state: Mapping[str, Any]) -> Sandbox | None:
        return await self._driver.attach(state)

    async def sweep(self, keep: Collection[str]) -> int:
        return await self._driver.sweep(keep)

    def memory_bytes(self) -> int:
        return self._driver.memory_bytes()

    async def close(self) -> None:
        await self._driver.close()


class SlowDriver(Wrapper):
    """Starts nothing until ``release`` is called; ``waiting`` counts those that wait."""

    def __init__(self, driver: Driver) -> None:
        super().__init__(driver)
        self.waiting = 0
        self._released = asyncio.Event()

    def release(self) -> None:
        self._released.set()

    async def create(self, spec: SandboxSpec) -> Sandbox:
        self.waiting += 1
        try:
            await self._released.wait()
        finally:
            self.waiting -= 1
        return await super().create(spec)


class NeverDriver(Wrapper):
    """Cannot start anything."""

    async def create(self, spec: SandboxSpec) -> Sandbox:
        raise StartFailed("it never can")


class CrashingDriver(FakeDriver):
    """Its sandboxes die, as by a segmentation fault, at their ``calls``-th call."""

    def __init__(self, guest: Guest = echo, calls: int = 1) -> None:
        async def crash(sandbox: FakeSandbox, call: Call) -> bytes:
            sandbox.memory["calls"] = sandbox.memory.get("calls", 0) + 1
            if sandbox.memory["calls"] >= calls:
                raise Exit(SEGMENTATION_FAULT)
            return await guest(sandbox, call)

        super().__init__(crash)
