"""WebAssembly in real sandboxes: what the engine needs of the kernel is allowed, and the limits of both go together."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import wasmtime
from tests.unit.wat import ECHO, GIVEN, module

from spinney.drivers.oci import OciDriver
from spinney.model import Call, Function, Outcome, Reply, Rights, Version
from spinney.ports import Launch, Limits, Sandbox, SandboxSpec
from spinney.runtimes.wasm import WasmRuntime

pytestmark = pytest.mark.anyio

RUN = WasmRuntime()
FUNCTION = Function(id="f", account_id="a", dialect="d", name="f", version_id="v", created_at=0.0, updated_at=0.0)
VERSION = Version(id="v", function_id="f", number=1, runtime="wasm", handler="", source="", created_at=0.0)
LIMITS = Limits(memory_mb=VERSION.memory_mb + 64)
FOREVER = "(loop $again (br $again)) (unreachable)"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
async def driver() -> AsyncIterator[OciDriver]:
    driver = OciDriver(Path("/run/spinney", uuid.uuid4().hex))
    yield driver
    await driver.close()


async def start(driver: OciDriver, launch: Launch, limits: Limits = LIMITS) -> Sandbox:
    return await driver.create(SandboxSpec(id=uuid.uuid4().hex[:12], launch=launch, limits=limits, warm=True))


async def send(sandbox: Sandbox, body: bytes = b'{"a":1}', timeout_s: float = 10.0) -> Reply:
    return await sandbox.call(Call("id", body, timeout_s), asyncio.get_running_loop().time() + timeout_s + 10)


@asynccontextmanager
async def loaded(driver: OciDriver, source: str, executable: bytes | None = None) -> AsyncIterator[Sandbox]:
    settings = {} if executable is None else {"executable": executable, "language": "assemblyscript"}
    sandbox = await start(driver, RUN.launch("wasm", Rights()))
    sandbox.load(RUN.load(FUNCTION, msgspec.structs.replace(VERSION, source=source, settings=settings), LIMITS))
    try:
        yield sandbox
    finally:
        await sandbox.close()


async def test_from_a_module_to_an_answer(driver: OciDriver) -> None:
    tool = await start(driver, RUN.launch_tool(), Limits(memory_mb=512, result_bytes=1 << 26))
    replies = [await send(tool, bytes(wasmtime.wat2wasm(ECHO))) for _ in range(2)]
    prepared = [RUN.prepared(reply) for reply in replies]
    assert prepared[0] is not None and prepared[0] == prepared[1]
    assert prepared[0].error == "" and prepared[0].facts.exports["handle"] == "(i32)->(i32)"
    async with loaded(driver, "", prepared[0].executable) as sandbox:
        for _ in range(50):
            reply = await send(sandbox)
            assert (reply.outcome, reply.body) == (Outcome.OK, b'{"a":1}'), reply


ENDS = {
    "WASM trap: integer divide by zero": "(i32.div_u (i32.const 1) (i32.const 0))",
    "WASM trap: out of bounds memory access": "(i32.load (i32.const -1))",
    "WASM trap: call stack exhausted": f"(call $handle {GIVEN})",
    "Memory limit exceeded: 128 MiB": "(drop (memory.grow (i32.const 4000))) (unreachable)",
    "Execution timed out after 0.1 seconds": FOREVER,
}


@pytest.mark.parametrize(("message", "body"), ENDS.items(), ids=ENDS.keys())
async def test_the_ends_of_executions_are_not_those_of_their_sandbox(driver: OciDriver, message: str, body: str) -> None:
    async with loaded(driver, module(body)) as sandbox:
        for _ in range(2):
            reply = await send(sandbox, timeout_s=0.1)
            assert (reply.outcome, reply.message, reply.reusable) == (Outcome.ERROR, message, True)


FILLED = """
    (drop (memory.grow (i32.const 2047)))
    (memory.fill (i32.const 65536) (i32.const 1) (i32.const 134152192))
    (i32.store (i32.const 1000) (i32.const 2)) (i32.store (i32.const 1004) (i32.const 9999998))
    (i32.store16 (i32.const 1008) (i32.const 0x5b))
    (local.set $n (i32.const 1010))
    (loop $more (i64.store (local.get $n) (i64.const {element}))
      (br_if $more (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const {size}))) (i32.const 10000999))))
    (i32.store16 (i32.sub (local.get $n) (i32.const 2)) (i32.const 0x5d))
    (i32.store (i32.const 1004) (i32.sub (local.get $n) (i32.const 1008)))
    (i32.const 1008)
"""
"""Uses all of memory, and answers a list of so many bytes as may be; the last comma becomes the bracket."""


@pytest.mark.parametrize("element", ["[],", "{},", "[0],", "8,", '"é",'])
async def test_all_memory_and_the_largest_output_at_once(driver: OciDriver, element: str) -> None:
    units = element.encode("utf-16-le").ljust(8, b"\0")
    body = FILLED.format(element=f"0x{int.from_bytes(units, 'little'):x}", size=2 * len(element))
    async with loaded(driver, module(body)) as sandbox:
        for _ in range(2):
            reply = await send(sandbox)
            assert (reply.outcome, reply.reusable) == (Outcome.OK, True), (reply.outcome, reply.message)
            assert len(reply.body.decode()) > 4_999_000 and reply.body.startswith(f"[{element}".encode())


async def test_an_idle_sandbox_is_small(driver: OciDriver) -> None:
    async with loaded(driver, ECHO) as sandbox:
        await send(sandbox)
        assert sandbox.usage().memory_bytes < 24 << 20
