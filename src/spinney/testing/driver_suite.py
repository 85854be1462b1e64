"""What every Driver must do. A test module subclasses ``DriverSuite`` (and ``IsolationSuite`` for drivers that really isolate),
gives it a ``driver`` and a ``spec``, and runs its ``test_`` methods with anyio's pytest plugin.

The sandboxes run ``spinney.testing.guest`` or something that answers like it.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from spinney.errors import Invalid, SandboxDied, StartFailed
from spinney.model import Call, Outcome, Reply, Rights
from spinney.ports import Answer, Command, Driver, Launch, Limits, Load, Mount, Process, Sandbox, SandboxSpec, Services

GUEST = "/opt/spinney-suite/guest.py"
LAUNCH = Launch(
    key="suite",
    argv=("/usr/bin/python3", "-IS", GUEST),
    mounts=(Mount(str(Path(__file__).with_name("guest.py")), GUEST),),
)
CALL_TIMEOUT_S = 20.0

FORK_UNTIL_REFUSED = """
import os, signal
pids = []
try:
    while True:
        pid = os.fork()
        if pid == 0:
            signal.pause()
        pids.append(pid)
except BlockingIOError:
    result = len(pids)
for pid in pids:
    os.kill(pid, 9); os.waitpid(pid, 0)
"""
"""Code for a guest: how many processes its sandbox lets it start."""


def make_spec(launch: Launch = LAUNCH, *, network: bool = False, **limits: Any) -> SandboxSpec:
    """A spec with an id of its own; ``limits`` are fields of Limits."""
    return SandboxSpec(id=str(uuid.uuid4()), launch=launch, limits=Limits(**limits), rights=Rights(net=network))


async def ask(
    sandbox: Sandbox, do: str, *, timeout_s: float = CALL_TIMEOUT_S, services: Services | None = None, **arguments: Any
) -> Reply:
    """Have the guest do something."""
    call = Call(str(uuid.uuid4()), json.dumps({"do": do, **arguments}).encode(), timeout_s)
    return await sandbox.call(call, asyncio.get_running_loop().time() + timeout_s, services)


async def get(sandbox: Sandbox, do: str, **arguments: Any) -> Any:
    """What the guest answers; fails when it does not."""
    reply = await ask(sandbox, do, **arguments)
    assert reply.outcome is Outcome.OK, reply
    return json.loads(reply.body)


@asynccontextmanager
async def opened(driver: Driver, spec: SandboxSpec) -> AsyncIterator[Sandbox]:
    """A sandbox that is closed at the end."""
    sandbox = await driver.create(spec)
    try:
        yield sandbox
    finally:
        await sandbox.close()


async def read_all(process: Process) -> dict[str, bytes]:
    """Everything a process writes, by stream."""
    output = {"stdout": b"", "stderr": b""}
    while True:
        stream, data = await process.read()
        if not stream:
            return output
        output[stream] += data


class SuiteServices:
    """Services that answer at once (``echo``, ``large``), fail (``refuse``, ``break``), wait for each other (``meet``) or without
    end (``wait``).
    """

    def __init__(self, meeting: int = 1) -> None:
        self.asked: list[tuple[str, str]] = []
        self.cancelled = 0
        self.waiting = asyncio.Event()
        self._meeting = meeting
        self._met = asyncio.Event()

    def answer(self, call: Call, service: str, method: str, args: bytes, data: bytes) -> Answer | Awaitable[Answer]:
        self.asked.append((call.id, service))
        match service:
            case "echo":
                return Answer([method, json.loads(args)], data)
            case "refuse":
                raise Invalid("no")
            case "break":
                raise ValueError("a fault of the service")
            case "large":
                return Answer(None, bytes(1 << 20))
        return self._later(service)

    async def _later(self, service: str) -> Answer:
        if service == "meet":
            self._meeting -= 1
            if not self._meeting:
                self._met.set()
            await self._met.wait()
            return Answer("met")
        if service == "wait":
            self.waiting.set()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self.cancelled += 1
        await asyncio.sleep(0)
        if service == "refuse later":
            raise Invalid("not now")
        raise ValueError("a fault of the service")


class DriverSuite:
    """Lifecycle, calls and the ways they end. Subclasses define the fixtures ``driver`` (a fresh Driver, closed by whoever made
    it) and ``spec`` (makes SandboxSpecs, arguments as ``make_spec``)."""

    # -- life ----------------------------------------------------------------------------------------------------------

    async def test_a_sandbox_answers_until_it_is_closed(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        wanted = spec()
        sandbox = await driver.create(wanted)
        assert sandbox.id == wanted.id
        assert await sandbox.poll() is None
        assert await get(sandbox, "echo", value={"a": [1, "ü", None]}) == {"a": [1, "ü", None]}
        await sandbox.close()
        assert await sandbox.poll() is not None
        assert (await ask(sandbox, "echo", value=1)).outcome is Outcome.NOT_RUN
        await sandbox.close()

    async def test_a_warmed_sandbox_answers_like_any_other(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        sandbox = await driver.create(msgspec.structs.replace(spec(), warm=True))
        assert await get(sandbox, "echo", value=1) == 1
        await sandbox.close()

    async def test_sandboxes_are_made_side_by_side(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        sandboxes = await asyncio.gather(*(driver.create(spec()) for _ in range(5)))
        assert len({sandbox.id for sandbox in sandboxes}) == 5
        answers = await asyncio.gather(*(get(sandbox, "remember", value=n) for n, sandbox in enumerate(sandboxes)))
        assert answers == [None] * 5
        assert [await get(sandbox, "remember", value="x") for sandbox in sandboxes] == list(range(5))
        await asyncio.gather(*(sandbox.close() for sandbox in sandboxes))

    async def test_a_cancelled_create_leaves_nothing(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        wanted = spec()
        task = asyncio.create_task(driver.create(wanted))
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        made = (await asyncio.gather(task, return_exceptions=True))[0]
        if not isinstance(made, BaseException):  # it was quicker
            await made.close()
        assert await driver.sweep(()) == 0
        async with opened(driver, wanted) as sandbox:
            assert await get(sandbox, "echo", value=1) == 1

    async def test_an_id_is_used_by_one_sandbox_at_a_time(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        wanted = spec()
        async with opened(driver, wanted) as sandbox:
            try:
                await driver.create(wanted)
            except StartFailed:
                assert await get(sandbox, "echo", value=1) == 1
            else:
                raise AssertionError("a second sandbox got the same id")

    async def test_closing_the_driver_closes_its_sandboxes(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        sandboxes = [await driver.create(spec()) for _ in range(2)]
        await driver.close()
        assert all([await sandbox.poll() is not None for sandbox in sandboxes])
        await driver.close()

    async def test_state_is_json_and_sweep_spares_the_living(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        async with opened(driver, spec()) as sandbox:
            state = json.loads(json.dumps(sandbox.state()))
            assert state["id"] == sandbox.id
            assert await driver.sweep([sandbox.id]) == 0
            assert await driver.sweep(()) == 0
            assert await get(sandbox, "echo", value=1) == 1
        assert await driver.attach(state) is None

    async def test_usage_is_never_negative_and_stays_after_the_end(
        self, driver: Driver, spec: Callable[..., SandboxSpec]
    ) -> None:
        async with opened(driver, spec()) as sandbox:
            await get(sandbox, "echo", value=1)
            assert min(sandbox.usage()) >= 0
            assert driver.memory_bytes() >= 0
        assert min(sandbox.usage()) >= 0

    # -- calls ---------------------------------------------------------------------------------------------------------

    async def test_one_sandbox_serves_many_calls(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        async with opened(driver, spec()) as sandbox:
            for number in range(50):
                assert await get(sandbox, "remember", value=number) == (number - 1 if number else None)

    async def test_large_bodies_pass_both_ways(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        async with opened(driver, spec()) as sandbox:
            text = "ü" * 1_000_000
            assert await get(sandbox, "echo", value=text) == text

    async def test_load_reaches_the_guest(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        wanted = spec()
        async with opened(driver, wanted) as sandbox:
            sandbox.load(Load(files={"index.js": b"code"}, payload=b'{"function": "f"}', limits=wanted.limits))
            assert await get(sandbox, "payload") == {"function": "f"}

    async def test_a_failing_call_does_not_end_the_sandbox(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        async with opened(driver, spec()) as sandbox:
            reply = await ask(sandbox, "fail", message="no")
            assert (reply.outcome, reply.message, reply.reusable) == (Outcome.ERROR, "RuntimeError: no", True)
            assert await get(sandbox, "echo", value=1) == 1

    async def test_output_becomes_logs_of_its_own_call(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        async with opened(driver, spec()) as sandbox:
            reply = await ask(sandbox, "write", stdout="one\n\ntwo", stderr="oh\r\n")
            assert sorted(reply.logs) == [("info", "one"), ("info", "two"), ("warn", "oh")]
            assert list((await ask(sandbox, "echo", value=1)).logs) == []

    async def test_output_beyond_the_limit_is_cut(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        async with opened(driver, spec(log_bytes=100)) as sandbox:
            reply = await ask(sandbox, "write", stdout="ü" * 500_000 + "\nmore\n")
            assert (reply.outcome, reply.logs_truncated) == (Outcome.OK, True)
            assert [line.text for line in reply.logs] == ["ü" * 50]

    async def test_output_that_is_no_log_is_drained_and_dropped(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        wanted = spec()
        quiet = msgspec.structs.replace(wanted.launch, pipes_are_logs=False)
        async with opened(driver, msgspec.structs.replace(wanted, launch=quiet)) as sandbox:
            reply = await ask(sandbox, "write", stdout="x" * 500_000, stderr="oh\n")
            assert (reply.outcome, list(reply.logs), reply.logs_truncated) == (Outcome.OK, [], False)

    # -- what calls ask of the host ------------------------------------------------------------------------------------

    async def test_the_host_answers(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        services = SuiteServices()
        async with opened(driver, spec()) as sandbox:
            for size in (0, 1, 10 << 20):
                asked = {"service": "echo", "method": "m", "args": {"a": ["ü", 1]}, "size": size}
                assert await get(sandbox, "ask", services=services, requests=[asked]) == [
                    {"ok": ["m", {"a": ["ü", 1]}], "bytes": size}
                ]
            assert await get(sandbox, "echo", value=1) == 1

    async def test_requests_are_answered_side_by_side(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        async with opened(driver, spec()) as sandbox:
            asked = [{"service": "meet"}] * 16
            assert await get(sandbox, "ask", services=SuiteServices(16), requests=asked) == [{"ok": "met", "bytes": 0}] * 16

    async def test_a_service_that_fails_is_an_answer_too(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        asked = [{"service": name} for name in ("refuse", "refuse later", "echo")]
        async with opened(driver, spec()) as sandbox:
            assert await get(sandbox, "ask", services=SuiteServices(), requests=asked) == [
                {"error": "no", "bytes": 0},
                {"error": "not now", "bytes": 0},
                {"ok": ["", {}], "bytes": 0},
            ]

    async def test_who_has_no_services_may_not_ask(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        async with opened(driver, spec()) as sandbox:
            reply = await ask(sandbox, "ask", requests=[{"service": "echo"}])
            assert (reply.outcome, reply.reusable) == (Outcome.EXITED, False)

    async def test_the_end_of_a_call_ends_what_it_asked_for(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        services = SuiteServices()
        async with opened(driver, spec()) as sandbox:
            reply = await ask(sandbox, "ask", timeout_s=0.3, services=services, requests=[{"service": "wait"}])
            assert reply.outcome is Outcome.TIMEOUT
        await asyncio.sleep(0)
        assert services.cancelled == 1

    # -- ends ----------------------------------------------------------------------------------------------------------

    async def test_an_exit_is_reported_with_its_code(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        async with opened(driver, spec()) as sandbox:
            reply = await ask(sandbox, "write", stdout="last words", leave=7)
            assert (reply.outcome, reply.exit_code, reply.reusable) == (Outcome.EXITED, 7, False)
            assert [line.text for line in reply.logs] == ["last words"]
            assert await sandbox.poll() == 7

    async def test_a_signal_is_reported_as_128_and_its_number(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        async with opened(driver, spec()) as sandbox:
            reply = await ask(sandbox, "die", number=11)
            assert (reply.outcome, reply.exit_code) == (Outcome.EXITED, 139)

    async def test_the_deadline_ends_everything(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        async with opened(driver, spec()) as sandbox, opened(driver, spec()) as neighbour:
            reply = await ask(sandbox, "hang", timeout_s=0.3)
            assert (reply.outcome, reply.reusable) == (Outcome.TIMEOUT, False)
            assert await sandbox.poll() is not None
            assert await get(neighbour, "echo", value=1) == 1

    async def test_closing_ends_a_running_call(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        sandbox = await driver.create(spec())
        call = asyncio.create_task(ask(sandbox, "hang"))
        await asyncio.sleep(0)
        await sandbox.close()
        assert (await call).outcome is Outcome.EXITED


class HostCallSuite:
    """Guests that ask too much, wrongly, late, or die asking. For drivers with a guest channel; fixtures as in DriverSuite."""

    async def test_a_fault_of_a_service_is_none_of_the_guest(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        asked = [{"service": "break"}, {"service": "break later"}]
        async with opened(driver, spec()) as sandbox:
            answers = await get(sandbox, "ask", services=SuiteServices(), requests=asked)
            assert answers == [{"error": "internal error", "bytes": 0}] * 2

    async def test_what_is_too_large_is_refused(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        services = SuiteServices()
        asked = [
            {"service": "echo", "args": {"a": "x" * (1 << 20)}},
            {"service": "echo", "size": (10 << 20) + 1},
            {"service": "echo"},
        ]
        refused = {"error": "the request is too large", "bytes": 0}
        async with opened(driver, spec()) as sandbox:
            answers = await get(sandbox, "ask", services=services, requests=asked)
            assert answers == [refused, refused, {"ok": ["", {}], "bytes": 0}]
            reply = await ask(sandbox, "ask", services=services, requests=[{"service": "echo", "size": 12 << 20}])
            assert (reply.outcome, reply.reusable) == (Outcome.EXITED, False)
        assert len(services.asked) == 1

    async def test_nonsense_ends_the_sandbox(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        for service in (None, 7, ["echo"]):
            async with opened(driver, spec()) as sandbox:
                reply = await ask(sandbox, "ask", services=SuiteServices(), requests=[{"service": service}])
                assert (reply.outcome, reply.reusable) == (Outcome.EXITED, False)

    async def test_too_many_at_the_same_time_are_refused(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        for patient, size in ((16, 0), (3, 10 << 20)):
            services = SuiteServices()
            asked = [{"service": "wait", "size": size}] * patient + [{"service": "echo", "size": size}]
            async with opened(driver, spec()) as sandbox:
                answers = await get(sandbox, "ask", services=services, requests=asked, enough=1)
                assert answers == [{"error": "too many requests at the same time", "bytes": 0}]
                assert len(services.asked) == patient
                await asyncio.sleep(0)
                assert services.cancelled == patient, "by the end of the call"
                asked = [{"service": "echo", "size": size}]
                assert await get(sandbox, "ask", services=services, requests=asked) == [{"ok": ["", {}], "bytes": size}]

    async def test_who_does_not_listen_is_not_heard(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        services = SuiteServices()
        async with opened(driver, spec()) as sandbox:
            reply = await ask(sandbox, "ask_unheard", services=services, timeout_s=3, service="large", times=1000)
            assert reply.outcome is Outcome.TIMEOUT
        assert 0 < len(services.asked) < 200, "each answer is a megabyte that nobody has read"

    async def test_a_late_request_is_not_heard(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        services = SuiteServices()
        async with opened(driver, spec()) as sandbox:
            assert (await ask(sandbox, "ask_late", services=services, service="echo")).outcome is Outcome.OK
            assert await get(sandbox, "echo", services=services, value=1) == 1
            assert await get(sandbox, "ask", services=services, requests=[{"service": "echo"}]) == [{"ok": ["", {}], "bytes": 0}]
        assert len(services.asked) == 1

    async def test_a_sandbox_that_dies_asking(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        services = SuiteServices()
        async with opened(driver, spec()) as sandbox:
            reply = await ask(sandbox, "ask_and_leave", services=services, service="wait", code=7)
            assert (reply.outcome, reply.exit_code) == (Outcome.EXITED, 7)
        await asyncio.sleep(0)
        assert services.cancelled == 1

    async def test_closing_ends_what_was_asked_for(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        services = SuiteServices()
        sandbox = await driver.create(spec())
        call = asyncio.create_task(ask(sandbox, "ask", services=services, requests=[{"service": "wait"}]))
        await services.waiting.wait()
        await sandbox.close()
        assert (await call).outcome is Outcome.EXITED
        await asyncio.sleep(0)
        assert services.cancelled == 1

    async def test_calls_behind_one_that_asks_are_given_back(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        services = SuiteServices()
        async with opened(driver, spec()) as sandbox:
            long = asyncio.create_task(ask(sandbox, "ask", services=services, timeout_s=1, requests=[{"service": "wait"}]))
            await asyncio.sleep(0)
            behind = await asyncio.gather(*(ask(sandbox, "remember", services=services, value=n) for n in range(3)))
            assert not long.done()
            assert [(reply.outcome, reply.reusable) for reply in behind] == [(Outcome.NOT_RUN, True)] * 3
            assert (await long).outcome is Outcome.TIMEOUT
        async with opened(driver, spec()) as sandbox:
            before = sandbox.may_send_ahead
            await get(sandbox, "ask", services=services, requests=[{"service": "echo"}])
            assert (before, sandbox.may_send_ahead) == (True, False)
            assert await get(sandbox, "remember", services=services, value="x") is None


class AheadSuite:
    """For drivers whose sandboxes can be sent calls ahead; fixtures as in DriverSuite."""

    async def test_calls_sent_ahead_are_answered_in_order(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        async with opened(driver, spec()) as sandbox:
            assert sandbox.may_send_ahead
            assert await asyncio.gather(*(get(sandbox, "remember", value=n) for n in range(8))) == [None, *range(7)]

    async def test_calls_behind_a_long_one_are_taken_back(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        async with opened(driver, spec()) as sandbox:
            long = asyncio.create_task(ask(sandbox, "burn", cpu_s=0.5))
            await asyncio.sleep(0)
            behind = await asyncio.gather(*(ask(sandbox, "remember", value=n) for n in range(3)))
            assert not long.done()
            assert [(reply.outcome, reply.reusable) for reply in behind] == [(Outcome.NOT_RUN, True)] * 3
            assert not sandbox.may_send_ahead
            assert (await long).outcome is Outcome.OK
            assert await get(sandbox, "remember", value="x") is None
            assert sandbox.may_send_ahead

    async def test_calls_behind_the_end_are_not_run(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        async with opened(driver, spec()) as sandbox:
            ended, *behind = await asyncio.gather(
                ask(sandbox, "leave", code=7), *(ask(sandbox, "echo", value=1) for _ in range(2))
            )
            assert (ended.outcome, ended.exit_code) == (Outcome.EXITED, 7)
            assert [(reply.outcome, reply.reusable) for reply in behind] == [(Outcome.NOT_RUN, False)] * 2

    async def test_a_call_that_was_sent_ahead_has_its_own_time(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        async with opened(driver, spec()) as sandbox:
            first, second = await asyncio.gather(ask(sandbox, "echo", value=1), ask(sandbox, "hang", timeout_s=0.5))
            assert (first.outcome, second.outcome) == (Outcome.OK, Outcome.TIMEOUT)
            assert second.duration_s >= 0.5

    async def test_what_is_written_to_the_pipes_ends_sending_ahead(
        self, driver: Driver, spec: Callable[..., SandboxSpec]
    ) -> None:
        async with opened(driver, spec()) as sandbox:
            assert [line.text for line in (await ask(sandbox, "write", stdout="hello")).logs] == ["hello"]
            assert not sandbox.may_send_ahead

    async def test_a_large_call_is_not_sent_ahead(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        async with opened(driver, spec()) as sandbox:
            first, large = await asyncio.gather(ask(sandbox, "echo", value=1), ask(sandbox, "echo", value="x" * 100_000))
            assert (first.outcome, large.outcome, large.reusable) == (Outcome.OK, Outcome.NOT_RUN, True)
            assert await get(sandbox, "echo", value="x" * 100_000) == "x" * 100_000


class IsolationSuite(DriverSuite):
    """Limits, files, environment and processes, for drivers whose sandboxes are real."""

    async def test_files_of_the_load_are_there_and_read_only(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        wanted = spec()
        async with opened(driver, wanted) as sandbox:
            sandbox.load(Load(files={"index.py": b"x = 1\n", "data.bin": b"\0"}, payload=b"{}", limits=wanted.limits))
            assert await get(sandbox, "read", path="/var/task/index.py") == "x = 1\n"
            for path in ("/var/task/index.py", "/var/task/new", "/usr/new", "/etc/new", "/new", "/dev/new"):
                reply = await ask(sandbox, "python", code=f"open({path!r}, 'w')")
                assert reply.outcome is Outcome.ERROR, path

    async def test_a_file_name_never_leaves_the_task_directory(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        wanted = spec()
        async with opened(driver, wanted) as sandbox:
            for name in ("../x", "a/b", "/etc/x", "..", ""):
                try:
                    sandbox.load(Load(files={name: b""}, payload=b"{}", limits=wanted.limits))
                except StartFailed:
                    continue
                raise AssertionError(name)

    async def test_the_environment_is_small_and_fixed(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        async with opened(driver, spec()) as sandbox:
            environment = await get(sandbox, "python", code="import os; result = dict(os.environ)")
            assert set(environment) == {"PATH", "HOME", "TMPDIR", "LANG", "TZ"}
            assert (environment["HOME"], environment["TZ"]) == ("/tmp", "UTC")

    async def test_rights_that_are_not_granted_are_not_there(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        places = ("/tmp", "/var/tmp", "/dev/shm", "/var/task")
        attempt = """
import os
result = {}
for place in %r:
    try:
        result[place] = open(place + "/x", "w").write("x")
    except OSError as error:
        result[place] = error.strerror
result["environment"] = list(os.environ)
"""
        for granted in (False, True):
            rights = Rights(net=False, env=granted, read=granted, write=granted)
            async with opened(driver, msgspec.structs.replace(spec(), rights=rights)) as sandbox:
                seen = await get(sandbox, "python", code=attempt % (places,))
                assert ("PATH" in seen.pop("environment")) == granted
                writable = {place for place, answer in seen.items() if answer == 1}
                assert writable == ({"/tmp", "/var/tmp", "/dev/shm"} if granted else set())

    async def test_a_launch_says_where_its_guest_starts(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        wanted = spec()
        for cwd in ("/var/task", "/tmp"):
            launch = msgspec.structs.replace(wanted.launch, cwd=cwd)
            async with opened(driver, msgspec.structs.replace(spec(), launch=launch)) as sandbox:
                assert await get(sandbox, "python", code="import os; result = os.getcwd()") == cwd

    async def test_memory_is_limited_and_told_apart(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        async with opened(driver, spec(memory_mb=64)) as sandbox:
            assert await get(sandbox, "eat", mb=20) == 20
            reply = await ask(sandbox, "eat", mb=200)
            assert (reply.outcome, reply.exit_code, reply.reusable) == (Outcome.OUT_OF_MEMORY, 137, False)

    async def test_load_changes_the_memory_limit(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        for before, after, fits in ((64, 256, True), (256, 64, False)):
            async with opened(driver, spec(memory_mb=before)) as sandbox:
                sandbox.load(Load(files={}, payload=b"{}", limits=Limits(memory_mb=after)))
                reply = await ask(sandbox, "eat", mb=150)
                assert reply.outcome is (Outcome.OK if fits else Outcome.OUT_OF_MEMORY)

    async def test_a_child_out_of_memory_is_not_the_guest(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        code = "import subprocess; result = subprocess.run(['/usr/bin/python3', '-ISc', 'bytearray(300 << 20)']).returncode"
        async with opened(driver, spec(memory_mb=64)) as sandbox:
            assert await get(sandbox, "python", code=code) == -9
            reply = await ask(sandbox, "leave", code=3)
            assert (reply.outcome, reply.exit_code) == (Outcome.EXITED, 3)

    async def test_tmp_is_private_and_limited(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        fill = "import os\nfd = os.open('/tmp/f', os.O_CREAT | os.O_WRONLY)\nwhile True: os.write(fd, bytes(1 << 20))"
        async with opened(driver, spec(tmp_mb=8)) as sandbox, opened(driver, spec()) as other:
            reply = await ask(sandbox, "python", code=fill)
            assert "No space left" in reply.message
            assert await get(sandbox, "python", code="import os; result = os.stat('/tmp/f').st_size") == 8 << 20
            assert await get(other, "python", code="import os; result = os.listdir('/tmp')") == []

    async def test_processes_are_limited(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        async with opened(driver, spec(pids=32)) as sandbox:
            assert 20 <= await get(sandbox, "python", code=FORK_UNTIL_REFUSED) < 32
            assert await get(sandbox, "echo", value=1) == 1

    async def test_cpu_is_measured(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        async with opened(driver, spec()) as sandbox:
            await get(sandbox, "burn", cpu_s=0.2)
            usage = sandbox.usage()
            assert usage.cpu_s >= 0.2
            assert usage.memory_peak_bytes >= usage.memory_bytes > 0
            assert driver.memory_bytes() > 0

    async def test_a_process_beside_the_guest(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        async with opened(driver, spec()) as sandbox:
            process = await sandbox.exec(Command(argv=("/bin/sh", "-c", "cat; echo $A >&2; exit 3"), environment={"A": "b"}))
            reading = asyncio.create_task(read_all(process))
            await process.write(b"in" * 100_000)
            await process.write(b"")
            assert await reading == {"stdout": b"in" * 100_000, "stderr": b"b\n"}
            assert await process.wait() == 3

    async def test_standard_streams_can_be_opened_by_name(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        async with opened(driver, spec()) as sandbox:
            reply = await ask(sandbox, "python", code="open('/dev/stdout', 'w').write('o'); open('/dev/stderr', 'w').write('e')")
            assert (reply.outcome, sorted(reply.logs)) == (Outcome.OK, [("info", "o"), ("warn", "e")])
            process = await sandbox.exec(Command(argv=("/bin/sh", "-c", "cat /dev/stdin > /dev/stdout")))
            await process.write(b"through")
            await process.write(b"")
            assert await read_all(process) == {"stdout": b"through", "stderr": b""}

    async def test_a_process_with_a_terminal(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        async with opened(driver, spec()) as sandbox:
            process = await sandbox.exec(Command(argv=("/bin/sh", "-c", "read x; stty size; tty"), pty=True))
            process.resize(100, 40)
            await process.write(b"go\n")
            output = (await read_all(process))["stdout"]
            assert b"40 100\r\n" in output
            assert b"/dev/pts/" in output
            assert await process.wait() == 0

    async def test_processes_die_with_their_sandbox(self, driver: Driver, spec: Callable[..., SandboxSpec]) -> None:
        sandbox = await driver.create(spec())
        process = await sandbox.exec(Command(argv=("/bin/sleep", "1000")))
        killed = await sandbox.exec(Command(argv=("/bin/sleep", "1000")))
        killed.kill()
        assert await killed.wait() == 137
        await sandbox.close()
        assert await process.wait() == 137
        try:
            await sandbox.exec(Command(argv=("/bin/true",)))
        except SandboxDied:
            return
        raise AssertionError("a closed sandbox took a process")
