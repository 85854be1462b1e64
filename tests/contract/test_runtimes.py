"""Every runtime against the suite of its port: each version as a bare process, each language also in real sandboxes."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from spinney.drivers.oci import OciDriver
from spinney.model import LogLine, Outcome
from spinney.ports import Launch, Limits, SandboxSpec
from spinney.runtimes.deno import DenoRuntime
from spinney.runtimes.lua import LuaRuntime
from spinney.runtimes.node import NodeRuntime
from spinney.runtimes.python import PythonRuntime
from spinney.runtimes.wasm import WasmRuntime
from spinney.testing.guest_process import GuestProcess
from spinney.testing.runtime_suite import EventSuite, Guest, LaunchSuite, Programs, RuntimeSuite, Trial

pytestmark = pytest.mark.anyio

JAVASCRIPT = Programs(
    echo="exports.handler = async (event) => event",
    nothing="exports.handler = () => {}",
    fail="exports.handler = async (event) => { throw new TypeError(event) }",
    broken="exports.handler = () => {",
    broken_loading="console.log('loading'); throw new Error('not today')",
    other="exports.api = { users: { own: 1, create(event) { return event * this.own } } }",
    exit="exports.handler = (event) => { process.stdout.write('last words'); process.exit(event) }",
    levels="exports.handler = async () => { console.log('i'); console.warn('w'); console.error('e') }",
    prints="exports.handler = ({out, err}) => { process.stdout.write(out); process.stderr.write(err) }",
    counter="let calls = 0; exports.handler = () => ++calls",
    environment="""
        exports.handler = () => {
            const seen = { ...process.env };
            process.env.A = 'changed';
            process.env.NEW = 'new';
            delete process.env.HOME;
            return seen;
        }
    """,
    context="""
        exports.handler = (event, { getRemainingTimeInMillis, callbackWaitsForEmptyEventLoop, ...c }) => [
            c.functionName, c.functionVersion, c.memoryLimitInMB, c.awsRequestId, c.logGroupName, c.logStreamName,
            c.invokedFunctionArn, getRemainingTimeInMillis(),
        ]
    """,
    left_ms="""
        exports.handler = async (event, context) => {
            const first = context.getRemainingTimeInMillis();
            await new Promise((go) => setTimeout(go, 30));
            return [first, context.getRemainingTimeInMillis()];
        }
    """,
    endless="exports.handler = () => { console.log('begun'); for (;;); }",
    repeat="exports.handler = (count) => 'x'.repeat(count)",
    nest="exports.handler = (levels) => { let value = []; while (--levels) value = [value]; return value }",
    no_json="exports.handler = () => [1n]",
    background="""
        exports.handler = async () => {
            setTimeout(() => { throw new Error('behind') }, 1);
            await new Promise((go) => setTimeout(go, 10000));
        }
    """,
    left_over="""
        exports.handler = async (event) => {
            if (event === 1) {
                setTimeout(() => { console.log('late'); throw new Error('late') }, 1);
                setTimeout(() => { console.log('late'); Promise.reject(new Error('late')) }, 1);
                setImmediate(() => console.log('late'));
            } else {
                await new Promise((go) => setTimeout(go, 30));
                console.log('now');
            }
            return event;
        }
    """,
    flood="""
        exports.handler = () => {
            for (let n = 0; n < 1000; n++) { console.log('x'.repeat(1000)); process.stdout.write('x'.repeat(1000) + '\\n') }
            return 'done';
        }
    """,
)

PYTHON = Programs(
    echo="async def handler(event, context):\n    return event\n",
    nothing="def handler(event, context):\n    pass\n",
    fail="async def handler(event, context):\n    raise TypeError(event)\n",
    broken="def handler(event, context)\n",
    broken_loading="import logging\nlogging.info('loading')\nraise RuntimeError('not today')\n",
    other="""
class api:
    class users:
        @staticmethod
        def create(event, context):
            return event
""",
    exit="import sys\ndef handler(event, context):\n    print('last words', end='')\n    sys.exit(event)\n",
    levels="""
import logging
def handler(event, context):
    logging.info("i")
    logging.warning("w")
    logging.critical("%s", "e")
""",
    prints="""
import sys
def handler(event, context):
    print(event["out"], end="")
    print(event["err"], end="", file=sys.stderr)
""",
    counter="calls = 0\ndef handler(event, context):\n    global calls\n    calls += 1\n    return calls\n",
    environment="""
import os
def handler(event, context):
    seen = dict(os.environ)
    os.environ["A"] = "changed"
    os.environ["NEW"] = "new"
    del os.environ["HOME"]
    return seen
""",
    context="""
def handler(event, c):
    return (c.function_name, c.function_version, c.memory_limit_in_mb, c.aws_request_id, c.log_group_name, c.log_stream_name,
            c.invoked_function_arn, c.get_remaining_time_in_millis())
""",
    left_ms="""
import asyncio
async def handler(event, context):
    first = context.get_remaining_time_in_millis()
    await asyncio.sleep(0.03)
    return [first, context.get_remaining_time_in_millis()]
""",
    endless="import logging\ndef handler(event, context):\n    logging.info('begun')\n    while True: pass\n",
    repeat="def handler(count, context):\n    return 'x' * count\n",
    nest="def handler(levels, context):\n    value = []\n    for _ in range(levels - 1): value = [value]\n    return value\n",
    no_json="def handler(event, context):\n    return [{1}]\n",
    background="""
import threading, time
def fail():
    raise RuntimeError("behind")
def handler(event, context):
    threading.Timer(0.001, fail).start()
    time.sleep(10)
""",
    left_over="""
import asyncio, logging, threading
async def fail_later():
    await asyncio.sleep(0.001)
    fail()
def fail():
    logging.info("late")
    raise RuntimeError("late")
async def handler(event, context):
    if event == 1:
        threading.Timer(0.01, fail).start()
        asyncio.create_task(fail_later())
        asyncio.get_running_loop().call_later(0.001, fail)
    else:
        await asyncio.sleep(0.03)
        logging.info("now")
    return event
""",
    flood="""
import logging
def handler(event, context):
    for _ in range(1000):
        logging.info("x" * 1000)
        print("x" * 1000)
    return "done"
""",
)

TYPESCRIPT = Programs(
    echo="interface Event { body: string }\nexport default async (event: Event): Promise<unknown> => JSON.parse(event.body)",
    nothing="export default () => {}",
    fail="export default async (event) => { throw new TypeError(await event.json()) }",
    broken="export default () => {",
    broken_loading="console.log('loading'); throw new Error('not today')",
    levels="export default () => { console.log('i'); console.warn('w'); console.error('e') }",
    counter="let calls: number = 0; export const handler = () => ++calls",
    environment="""
        async function handler() {
            const { FLUXBASE_EXECUTION_ID, ...seen } = Deno.env.toObject();
            process.env.A = 'changed';
            Deno.env.set('NEW', 'new');
            Deno.env.delete('HOME');
            return seen;
        }
    """,
    endless="export default () => { console.log('begun'); for (;;); }",
    repeat="export default ({ body }) => 'x'.repeat(+body)",
    no_json="export default () => [1n]",
    background="""
        export default async () => {
            setTimeout(() => { throw new Error('behind') }, 1);
            await new Promise((go) => setTimeout(go, 10000));
        }
    """,
    left_over="""
        export default async ({ body }) => {
            if (body === '1') {
                setTimeout(() => { console.log('late'); throw new Error('late') }, 1);
                setInterval(() => { console.log('late'); Promise.reject(new Error('late')) }, 1);
                setImmediate(() => console.log('late'));
            } else {
                await new Promise((go) => setTimeout(go, 30));
                console.log('now');
            }
            return +body;
        }
    """,
    flood="""
        export default () => {
            for (let n = 0; n < 1000; n++) { console.log('x'.repeat(1000)); process.stdout.write('x'.repeat(1000) + '\\n') }
            return 'done';
        }
    """,
)

LUA = Programs(**dict.fromkeys(Programs._fields, ""))._replace(
    echo="function handler(ctx, event) return { body = event.body } end",
    levels="log.info('i') log.warn('w') log.error('e') function handler() return {} end",
    endless="function handler() log.info('begun') while true do end end",
    repeat="function handler(ctx, event) return { body = '\"' .. ('x'):rep(tonumber(event.body)) .. '\"' } end",
)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


async def boot_bare(launch: Launch, limits: Limits) -> Guest:
    return GuestProcess(launch)


class TestNode(EventSuite):
    @pytest.fixture
    def programs(self) -> Programs:
        return JAVASCRIPT

    @pytest.fixture(params=NodeRuntime.ids)
    def trial(self, request: pytest.FixtureRequest) -> Trial:
        return Trial(NodeRuntime(), request.param, boot_bare)


class TestPython(EventSuite):
    @pytest.fixture
    def programs(self) -> Programs:
        return PYTHON

    @pytest.fixture
    def trial(self) -> Trial:
        return Trial(PythonRuntime(), "python311", boot_bare)


class RequestSuite(RuntimeSuite):
    """Deno's guest takes requests and words its failures and logs as Fluxbase does."""

    def failure(self, name: str, text: str) -> str:
        return f"{name}: {text}"

    def line(self, level: str, text: str) -> LogLine:
        return LogLine(level, f"console.{'log' if level == 'info' else level}: {text}")


class TestDeno(RequestSuite):
    @pytest.fixture
    def programs(self) -> Programs:
        return TYPESCRIPT

    @pytest.fixture
    def trial(self) -> Trial:
        return Trial(DenoRuntime(), "deno", boot_bare)


class TestWasm(LaunchSuite):
    @pytest.fixture
    def trial(self) -> Trial:
        return Trial(WasmRuntime(), "wasm", boot_bare)


class InSandboxes:
    @pytest.fixture
    async def driver(self) -> AsyncIterator[OciDriver]:
        driver = OciDriver(Path("/run/spinney", uuid.uuid4().hex))
        yield driver
        await driver.close()

    async def boot(self, driver: OciDriver, launch: Launch, limits: Limits) -> Guest:
        return await driver.create(SandboxSpec(id=uuid.uuid4().hex, launch=launch, limits=limits))


class TestNodeInSandboxes(InSandboxes, EventSuite):
    @pytest.fixture
    def programs(self) -> Programs:
        return JAVASCRIPT

    @pytest.fixture(params=["nodejs18", "nodejs22"])
    def trial(self, request: pytest.FixtureRequest, driver: OciDriver) -> Trial:
        return Trial(NodeRuntime(), request.param, lambda launch, limits: self.boot(driver, launch, limits))


class TestPythonInSandboxes(InSandboxes, EventSuite):
    @pytest.fixture
    def programs(self) -> Programs:
        return PYTHON

    @pytest.fixture
    def trial(self, driver: OciDriver) -> Trial:
        return Trial(PythonRuntime(), "python3", lambda launch, limits: self.boot(driver, launch, limits))


class TestDenoInSandboxes(InSandboxes, RequestSuite):
    @pytest.fixture
    def programs(self) -> Programs:
        return TYPESCRIPT

    @pytest.fixture
    def trial(self, driver: OciDriver) -> Trial:
        return Trial(DenoRuntime(), "deno", lambda launch, limits: self.boot(driver, launch, limits))


class TestWasmInSandboxes(InSandboxes, LaunchSuite):
    @pytest.fixture
    def trial(self, driver: OciDriver) -> Trial:
        return Trial(WasmRuntime(), "wasm", lambda launch, limits: self.boot(driver, launch, limits))


class TestLuaInSandboxes(InSandboxes):
    """Those tests of the suite that are not about a process that goes on from call to call: a Lua program has none."""

    @pytest.fixture
    def programs(self) -> Programs:
        return LUA

    @pytest.fixture
    def trial(self, driver: OciDriver) -> Trial:
        return Trial(LuaRuntime(), "lua", lambda launch, limits: self.boot(driver, launch, limits))

    line = RuntimeSuite.line
    test_values = RuntimeSuite.test_values_pass_through_unchanged
    test_sizes = RuntimeSuite.test_events_of_any_size
    test_the_largest_result = RuntimeSuite.test_the_largest_result_and_one_byte_more
    test_endless = RuntimeSuite.test_what_never_ends_times_out_with_its_logs
    test_log_levels = RuntimeSuite.test_log_levels
    test_ids = RuntimeSuite.test_ids_that_are_installed_can_be_launched
    test_the_sample = RuntimeSuite.test_the_sample_greets

    async def test_a_full_memory(self, trial: Trial) -> None:
        async with trial.loaded("function handler() local s = 'x' while true do s = s .. s end end") as loaded:
            reply = await loaded.reply()
            assert reply.exit_code is not None and not reply.reusable
            assert trial.runtime.explain(reply.exit_code, []) is Outcome.OUT_OF_MEMORY
