"""One function of a runtime, run for real, or one build of a compiler: what a start shows and what ``doctor`` asks."""

from __future__ import annotations

import asyncio
from time import perf_counter, time

import msgspec

from spinney.core.builds import LIMIT_S as BUILD_TIMEOUT_S
from spinney.core.builds import compiler_kind
from spinney.core.stems import Kind
from spinney.errors import Error
from spinney.model import Call, Function, Outcome, Version
from spinney.ports import Compiler, Driver, Runtime

TIMEOUT_S = 10.0


class CheckResult(msgspec.Struct, frozen=True):
    """What one runtime answered. ``problem`` is None when all went well; times in milliseconds."""

    runtime: str
    version: str
    answer: str = ""
    start_ms: float = 0.0
    call_ms: float = 0.0
    problem: str | None = None


async def self_check(runtime: Runtime, runtime_id: str, language_version: str, kind: Kind, driver: Driver) -> CheckResult:
    """Start a sandbox from nothing, run the runtime's sample in it, remove it."""
    function = Function(
        id="check", account_id="check", dialect="check", name="hello", version_id="check", created_at=time(), updated_at=time()
    )
    version = Version(
        id="check",
        function_id="check",
        number=1,
        runtime=runtime_id,
        handler=runtime.sample.handler,
        source=runtime.sample.source,
        created_at=time(),
    )
    began = perf_counter()
    try:
        sandbox = await driver.create(kind.spec())
        started = perf_counter()
        try:
            sandbox.load(runtime.load(function, version, kind.limits))
            reply = await sandbox.call(
                Call("self-check", b'{"name":"Spinney"}', TIMEOUT_S), asyncio.get_running_loop().time() + TIMEOUT_S
            )
            called = perf_counter()
        finally:
            await sandbox.close()
    except Error as error:
        return CheckResult(runtime_id, language_version, problem=error.message)
    if reply.outcome is not Outcome.OK:
        return CheckResult(runtime_id, language_version, problem=f"{reply.outcome}: {reply.message}")
    return CheckResult(
        runtime_id, language_version, reply.body.decode("utf-8", "replace"), (started - began) * 1e3, (called - started) * 1e3
    )


async def check_compiler(compiler: Compiler, language: str, driver: Driver) -> CheckResult:
    """Start a sandbox of the compiler from nothing, build its sample in it, remove it."""
    version = compiler.installed().get(language, "")
    began = perf_counter()
    try:
        sandbox = await driver.create(compiler_kind(compiler, language).spec())
        started = perf_counter()
        try:
            call = Call("self-check", compiler.request(language, compiler.sample), BUILD_TIMEOUT_S)
            reply = await sandbox.call(call, asyncio.get_running_loop().time() + BUILD_TIMEOUT_S)
            built = perf_counter()
        finally:
            await sandbox.close()
    except Error as error:
        return CheckResult(language, version, problem=error.message)
    compiled = compiler.result(reply) if reply.outcome is Outcome.OK else None
    if compiled is None or not compiled.module:
        return CheckResult(language, version, problem=(compiled and compiled.error) or f"{reply.outcome}: {reply.message}")
    answer = f"{len(compiled.module)} bytes"
    return CheckResult(language, version, answer, (started - began) * 1e3, (built - started) * 1e3)
