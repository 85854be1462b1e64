"""What WebAssembly costs inside its sandbox: a new instance for every call, a first call, preparing a module."""

from __future__ import annotations

import asyncio
import time
import uuid
from pathlib import Path
from statistics import median

import msgspec
import wasmtime

from bench.report import Results
from spinney.drivers.oci import OciDriver
from spinney.model import Call, Function, Outcome, Reply, Rights, Version
from spinney.ports import Launch, Limits, Sandbox, SandboxSpec
from spinney.runtimes.wasm import WasmRuntime

RUN = WasmRuntime()
FUNCTION = Function(id="f", account_id="a", dialect="bench", name="f", version_id="v", created_at=0.0, updated_at=0.0)
VERSION = Version(id="v", function_id="f", number=1, runtime="wasm", handler="", source="", created_at=0.0)
EVENT = b'{"name":"World"}'
CALLS = 1000


def wasm(results: Results, samples: int = 15, rounds: int = 5) -> None:
    """All of it in sandboxes of this scenario's own, without the server."""
    asyncio.run(_measure(results, samples, rounds))


async def _measure(results: Results, samples: int, rounds: int) -> None:
    driver = OciDriver(Path("/run/spinney", f"bench-{uuid.uuid4().hex[:8]}"))
    try:
        executable = await _prepare(results, driver, samples)
        firsts, boots = [], []
        for _ in range(samples):
            began = time.perf_counter()
            sandbox = await _start(driver, RUN.launch("wasm", Rights()))
            boots.append((time.perf_counter() - began) * 1e3)
            idle = sandbox.usage().memory_bytes
            version = msgspec.structs.replace(VERSION, settings={"executable": executable, "language": "assemblyscript"})
            sandbox.load(RUN.load(FUNCTION, version, Limits()))
            firsts.append(await _time(sandbox, EVENT))
        results.figure("WebAssembly: start of a sandbox, warmed up: p50", median(boots), "ms")
        results.figure("WebAssembly: memory of an idle sandbox", idle / (1 << 20), "MB")
        results.at_most(15, "WebAssembly: first call of a module that is ready: p50", median(firsts), "ms")
        results.at_most(
            150,
            "WebAssembly: processor time of a call in a new instance: p50",
            median([await _cpu_us(sandbox) for _ in range(rounds)]),
            "us",
        )
    finally:
        await driver.close()


async def _prepare(results: Results, driver: OciDriver, samples: int) -> bytes:
    """The sample as native code, made by the tool."""
    tool = await _start(driver, RUN.launch_tool())
    module = bytes(wasmtime.wat2wasm(RUN.sample.source))
    results.figure(
        "WebAssembly: preparing a small module: p50", median([await _time(tool, module) for _ in range(samples)]), "ms"
    )
    prepared = RUN.prepared(await _call(tool, module))
    assert prepared is not None and not prepared.error
    return prepared.executable


async def _cpu_us(sandbox: Sandbox) -> float:
    """What one of many calls costs the sandbox, its channel included."""
    before = sandbox.usage().cpu_s
    for _ in range(CALLS):
        await _call(sandbox, EVENT)
    return (sandbox.usage().cpu_s - before) / CALLS * 1e6


async def _start(driver: OciDriver, launch: Launch) -> Sandbox:
    return await driver.create(SandboxSpec(id=uuid.uuid4().hex[:12], launch=launch, limits=Limits(), warm=True))


async def _time(sandbox: Sandbox, body: bytes) -> float:
    began = time.perf_counter()
    await _call(sandbox, body)
    return (time.perf_counter() - began) * 1e3


async def _call(sandbox: Sandbox, body: bytes) -> Reply:
    reply = await sandbox.call(Call("bench", body, 10.0), asyncio.get_running_loop().time() + 11)
    assert reply.outcome is Outcome.OK, reply
    return reply
