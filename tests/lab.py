"""A compiler, the engine's tool and sandboxes to run modules, all real: where what comes out of sources is what matters."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from spinney.core.builds import MODULE_BYTES, compiler_kind
from spinney.core.stems import Kind
from spinney.drivers.oci import OciDriver
from spinney.model import Call, Function, Outcome, Reply, Rights, Version
from spinney.ports import Compiled, Compiler, Limits, Prepared, Sandbox
from spinney.runtimes.wasm import WasmRuntime

TIMEOUT_S = 60.0
CALL_S = 10.0


class Lab:
    """One language: its compiler's sandbox is used again for as long as that may be."""

    def __init__(self, driver: OciDriver, compiler: Compiler) -> None:
        self.compiler = compiler
        self.engine = WasmRuntime()
        self.driver = driver
        self.language = compiler.languages[0]
        self._sandboxes: dict[str, Sandbox] = {}

    async def _call(self, kind: Kind, body: bytes) -> Reply:
        """In a sandbox that is kept for the next call, unless it may not be used again."""
        sandbox = self._sandboxes.pop(kind.key, None) or await self.driver.create(kind.spec())
        reply = await sandbox.call(Call(uuid.uuid4().hex, body, TIMEOUT_S), asyncio.get_running_loop().time() + TIMEOUT_S)
        if reply.reusable:
            self._sandboxes[kind.key] = sandbox
        else:
            await sandbox.close()
        return reply

    async def reply(self, source: str) -> Reply:
        return await self._call(compiler_kind(self.compiler, self.language), self.compiler.request(self.language, source))

    async def compile(self, source: str) -> Compiled:
        reply = await self.reply(source)
        assert reply.outcome is Outcome.OK, reply
        compiled = self.compiler.result(reply)
        assert compiled is not None
        return compiled

    async def error(self, source: str) -> str:
        """The diagnostics of a source that does not compile."""
        compiled = await self.compile(source)
        assert not compiled.module
        return compiled.error

    async def starve(self, source: str, memory_mb: int) -> Reply:
        """The reply of a compiler that may use no more memory than this."""
        kind = compiler_kind(self.compiler, self.language)
        small = msgspec.structs.replace(kind, limits=msgspec.structs.replace(kind.limits, memory_mb=memory_mb))
        sandbox = await self.driver.create(small.spec())
        try:
            call = Call(uuid.uuid4().hex, self.compiler.request(self.language, source), TIMEOUT_S)
            return await sandbox.call(call, asyncio.get_running_loop().time() + TIMEOUT_S)
        finally:
            await sandbox.close()

    async def prepare(self, source: str) -> Prepared:
        compiled = await self.compile(source)
        assert compiled.module, compiled.error
        kind = Kind(self.engine.launch_tool(), Limits(memory_mb=512, result_bytes=MODULE_BYTES))
        prepared = self.engine.prepared(await self._call(kind, compiled.module))
        assert prepared is not None
        return prepared

    async def check(self, source: str, memory_mb: int = 128) -> str | None:
        return self.compiler.check((await self.prepare(source)).facts, memory_mb)

    async def run(self, source: str, *inputs: str) -> list[str]:
        """What the function in a source answers to each input."""
        async with self.running((await self.prepare(source)).executable) as run:
            return [told(await run(text)) for text in inputs]

    @asynccontextmanager
    async def running(self, executable: bytes) -> AsyncIterator[Module]:
        """The sandbox of a function."""
        limits = Limits(memory_mb=256)
        function = Function(id="f", account_id="a", dialect="nil", name="f", version_id="v", created_at=0.0, updated_at=0.0)
        version = Version(
            id="v",
            function_id="f",
            number=1,
            runtime="wasm",
            handler="",
            source="",
            created_at=0.0,
            settings={"language": self.language, "executable": executable},
        )
        sandbox = await self.driver.create(Kind(self.engine.launch("wasm", Rights()), limits).spec())
        try:
            sandbox.load(self.engine.load(function, version, limits))
            yield Module(sandbox)
        finally:
            await sandbox.close()


class Module:
    """A module in its sandbox; called with an input's text."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    async def __call__(self, text: str, timeout_s: float = CALL_S) -> Reply:
        call = Call(uuid.uuid4().hex, text.encode(), timeout_s)
        return await self._sandbox.call(call, asyncio.get_running_loop().time() + TIMEOUT_S)


def told(reply: Reply) -> str:
    """The output, or the message of a failure."""
    return reply.body.decode() if reply.outcome is Outcome.OK else reply.message


@asynccontextmanager
async def open_lab(compiler: Compiler) -> AsyncIterator[Lab]:
    driver = OciDriver(Path("/run/spinney", uuid.uuid4().hex))
    try:
        yield Lab(driver, compiler)
    finally:
        await driver.close()
