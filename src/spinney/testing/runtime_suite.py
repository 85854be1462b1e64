"""What every Runtime must do. A test module subclasses ``RuntimeSuite``, gives it the fixtures ``trial`` (a Trial) and
``programs`` (the same small functions in its language), and runs the ``test_`` methods with anyio's pytest plugin.

The guest may run bare (``spinney.testing.guest_process``) or in any driver's sandbox: the suite asks for loads and calls only.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, Protocol

from spinney.model import Call, Function, LogLine, Outcome, Reply, Rights, Version
from spinney.ports import Launch, Limits, Load, Runtime

TIMEOUT_S = 20.0
RESULT_BYTES = Limits().result_bytes
LOG_BYTES = Limits().log_bytes
VALUES: tuple[Any, ...] = (None, True, 0, -1.5, "", "ü\u2028\U0001f600`${x}'\"\\", [], {}, [[1], {"a": [None, False]}])


class Programs(NamedTuple):
    """The suite's functions in one language; each is a source whose handler is ``index.handler``; the last are EventSuite's."""

    echo: str
    """Answers its event."""
    nothing: str
    """Returns without a value, in the language's way."""
    fail: str
    """Raises an error with the event as its message."""
    broken: str
    """Does not compile."""
    broken_loading: str
    """Logs ``loading``, then raises an error with the message ``not today`` while it loads."""
    levels: str
    """Logs ``i``, ``w`` and ``e`` at the levels info, warn and error."""
    counter: str
    """Answers how often it was called in this process, 1 the first time."""
    environment: str
    """Answers all variables as an object; then changes A, removes HOME and adds NEW."""
    endless: str
    """Logs ``begun`` and never ends."""
    repeat: str
    """Answers a string of the event's number of ``x``."""
    no_json: str
    """Answers a value that has no JSON form."""
    background: str
    """Has something fail with the message ``behind`` in the background, while the handler waits for longer."""
    left_over: str
    """Called with 1 starts something that logs ``late`` and fails after the answer; otherwise gives that time to happen and
    logs ``now``. Answers its event."""
    flood: str
    """Logs 1000 lines of 1000 ``x``, prints as many, and answers ``done``."""
    other: str = ""
    """Has no ``handler``; has a function at ``api.users.create`` that answers its event."""
    exit: str = ""
    """Prints ``last words`` without an end of line, then ends the process with the event as exit code."""
    prints: str = ""
    """Writes the event's ``out`` to standard output and ``err`` to standard error."""
    context: str = ""
    """Answers [function name, version, memory, request id, log group, log stream, ARN, milliseconds left]."""
    left_ms: str = ""
    """Answers the milliseconds left, twice, the second time after sleeping 30 ms."""
    nest: str = ""
    """Answers as many lists within one another as the event says."""


class Guest(Protocol):
    """The part of a Sandbox that the suite uses."""

    def load(self, load: Load) -> None: ...

    async def call(self, call: Call, deadline: float) -> Reply: ...

    async def close(self) -> None: ...


class Loaded:
    """A guest with one of the programs in it."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest

    async def reply(self, event: Any = None, *, body: bytes | None = None, id: str = "", timeout_s: float = TIMEOUT_S) -> Reply:
        """Call it with an event, or with the bytes of one."""
        call = Call(id or str(uuid.uuid4()), json.dumps(event).encode() if body is None else body, timeout_s)
        return await self.guest.call(call, asyncio.get_running_loop().time() + timeout_s)

    async def answer(self, event: Any = None, *, body: bytes | None = None) -> Any:
        """What it answers; fails when it does not."""
        reply = await self.reply(event, body=body)
        assert reply.outcome is Outcome.OK, reply
        return json.loads(reply.body)

    async def fails(self, event: Any = None) -> tuple[Outcome, str]:
        """How it fails, and the message."""
        reply = await self.reply(event)
        return reply.outcome, reply.message


class Trial(NamedTuple):
    """A runtime and one of its ids, and what starts a guest: ``boot(launch, limits)``."""

    runtime: Runtime
    runtime_id: str
    boot: Callable[[Launch, Limits], Awaitable[Guest]]

    @asynccontextmanager
    async def loaded(self, source: str, handler: str = "index.handler", **fields: Any) -> AsyncIterator[Loaded]:
        """A guest that has the source; ``fields`` are those of Version. Closed at the end."""
        function = Function(
            id="f", account_id="a", dialect="suite", name="my-function", version_id="v", created_at=0.0, updated_at=0.0
        )
        version = Version(
            id="v", function_id="f", number=1, runtime=self.runtime_id, handler=handler, source=source, created_at=0.0, **fields
        )
        limits = Limits(memory_mb=version.memory_mb + 64)
        guest = await self.boot(self.runtime.launch(self.runtime_id, Rights()), limits)
        try:
            guest.load(self.runtime.load(function, version, limits))
            yield Loaded(guest)
        finally:
            await guest.close()


class LaunchSuite:
    """What every Runtime must do, whatever its functions are like."""

    async def test_ids_that_are_installed_can_be_launched(self, trial: Trial) -> None:
        installed = trial.runtime.installed()
        assert trial.runtime_id in installed and installed.keys() <= set(trial.runtime.ids)
        launch = trial.runtime.launch(trial.runtime_id, Rights())
        assert launch == trial.runtime.launch(trial.runtime_id, Rights())
        assert all(mount.target.startswith("/opt/spinney/") for mount in launch.mounts)

    async def test_the_sample_greets(self, trial: Trial) -> None:
        sample = trial.runtime.sample
        async with trial.loaded(sample.source, sample.handler) as loaded:
            assert await loaded.answer({"name": "Ada"}) == {"hello": "Ada"}


class RuntimeSuite(LaunchSuite):
    """The contract of a guest, and of the runtime that describes it to drivers."""

    def failure(self, name: str, text: str) -> str:
        """How a guest words an error of the kind ``name`` with this text."""
        return text

    def line(self, level: str, text: str) -> LogLine:
        """How a guest logs a text at a level."""
        return LogLine(level, text)

    # -- values --------------------------------------------------------------------------------------------------------

    async def test_values_pass_through_unchanged(self, trial: Trial, programs: Programs) -> None:
        async with trial.loaded(programs.echo) as loaded:
            for value in VALUES:
                assert await loaded.answer(value) == value

    async def test_a_member_named_proto_is_data(self, trial: Trial, programs: Programs) -> None:
        async with trial.loaded(programs.echo) as loaded:
            assert await loaded.answer(body=b'{"__proto__": {"x": 1}}') == {"__proto__": {"x": 1}}
            assert await loaded.answer({}) == {}

    async def test_lone_surrogates_stay_escaped(self, trial: Trial, programs: Programs) -> None:
        async with trial.loaded(programs.echo) as loaded:
            reply = await loaded.reply(body=b'"\\ud83d"')
            assert reply.body.lower() == b'"\\ud83d"'

    async def test_no_value_is_null(self, trial: Trial, programs: Programs) -> None:
        async with trial.loaded(programs.nothing) as loaded:
            assert (await loaded.reply({})).body == b"null"

    async def test_events_of_any_size(self, trial: Trial, programs: Programs) -> None:
        async with trial.loaded(programs.echo) as loaded:
            for size in (65_000, 65_536, 70_000, 1_000_000, RESULT_BYTES - 2, 10):
                assert await loaded.answer("x" * size) == "x" * size

    async def test_the_largest_result_and_one_byte_more(self, trial: Trial, programs: Programs) -> None:
        async with trial.loaded(programs.repeat) as loaded:
            assert len(await loaded.answer(RESULT_BYTES - 2)) == RESULT_BYTES - 2
            assert (await loaded.fails(RESULT_BYTES - 1))[0] is Outcome.RESULT_TOO_LARGE
            assert await loaded.answer(3) == "xxx"

    async def test_values_without_a_json_form(self, trial: Trial, programs: Programs) -> None:
        async with trial.loaded(programs.no_json) as loaded:
            outcome, reason = await loaded.fails()
            assert outcome is Outcome.BAD_RESULT and reason

    # -- failures ------------------------------------------------------------------------------------------------------

    async def test_an_error_is_its_message_and_the_guest_goes_on(self, trial: Trial, programs: Programs) -> None:
        async with trial.loaded(programs.fail) as loaded:
            for message in ("went wrong: ü", "again"):
                reply = await loaded.reply(message)
                wanted = (Outcome.ERROR, self.failure("TypeError", message), True)
                assert (reply.outcome, reply.message, reply.reusable) == wanted

    async def test_code_that_does_not_compile(self, trial: Trial, programs: Programs) -> None:
        async with trial.loaded(programs.broken) as loaded:
            outcome, message = await loaded.fails()
            assert outcome is Outcome.LOAD_ERROR and message

    async def test_code_that_fails_while_loading(self, trial: Trial, programs: Programs) -> None:
        async with trial.loaded(programs.broken_loading) as loaded:
            reply = await loaded.reply()
            wanted = (Outcome.LOAD_ERROR, self.failure("Error", "not today"), False)
            assert (reply.outcome, reply.message, reply.reusable) == wanted
            assert list(reply.logs) == [self.line("info", "loading")]

    async def test_what_never_ends_times_out_with_its_logs(self, trial: Trial, programs: Programs) -> None:
        async with trial.loaded(programs.endless) as loaded:
            reply = await loaded.reply(timeout_s=1.0)
            assert reply.outcome is Outcome.TIMEOUT and not reply.reusable
            assert list(reply.logs) == [self.line("info", "begun")]

    async def test_failing_in_the_background_is_failing(self, trial: Trial, programs: Programs) -> None:
        async with trial.loaded(programs.background) as loaded:
            reply = await loaded.reply()
            assert (reply.outcome, reply.message, reply.reusable) == (Outcome.ERROR, self.failure("Error", "behind"), False)

    # -- warm ----------------------------------------------------------------------------------------------------------

    async def test_a_process_serves_many_calls(self, trial: Trial, programs: Programs) -> None:
        async with trial.loaded(programs.counter) as loaded:
            assert [await loaded.answer() for _ in range(200)] == list(range(1, 201))

    async def test_what_is_left_over_harms_no_later_call(self, trial: Trial, programs: Programs) -> None:
        async with trial.loaded(programs.left_over) as loaded:
            for event in (1, 2, 3):
                reply = await loaded.reply(event)
                assert (reply.outcome, reply.body, reply.reusable) == (Outcome.OK, str(event).encode(), True)
                assert list(reply.logs) == ([self.line("info", "now")] if event > 1 else [])

    async def test_the_environment_is_put_back(self, trial: Trial, programs: Programs) -> None:
        async with trial.loaded(programs.environment, environment={"A": "1", "LANG": "ü", "B_": ""}) as loaded:
            first = await loaded.answer()
            assert {"A": "1", "LANG": "ü", "B_": "", "HOME": "/tmp", "TMPDIR": "/tmp", "TZ": "UTC"}.items() <= first.items()
            assert first.keys() <= {"A", "B_", "HOME", "LANG", "NODE_ENV", "PATH", "TMPDIR", "TZ"}
            assert await loaded.answer() == first

    # -- logs ----------------------------------------------------------------------------------------------------------

    async def test_log_levels(self, trial: Trial, programs: Programs) -> None:
        async with trial.loaded(programs.levels) as loaded:
            for _ in range(2):
                reply = await loaded.reply()
                assert list(reply.logs) == [self.line("info", "i"), self.line("warn", "w"), self.line("error", "e")]

    async def test_a_flood_of_logs_is_cut(self, trial: Trial, programs: Programs) -> None:
        async with trial.loaded(programs.flood) as loaded:
            for _ in range(2):
                reply = await loaded.reply()
                assert reply.body == b'"done"'
                assert sum(len(line.text) for line in reply.logs) >= LOG_BYTES - 2000


class EventSuite(RuntimeSuite):
    """What guests do besides that call a handler, found by a path, with an event and a context (Impuls contract 3)."""

    async def test_512_levels_and_no_more(self, trial: Trial, programs: Programs) -> None:
        async with trial.loaded(programs.nest) as loaded:
            assert (await loaded.reply(512)).body == b"[" * 512 + b"]" * 512
            for depth in (513, 100_000):
                outcome, reason = await loaded.fails(depth)
                assert outcome is Outcome.BAD_RESULT and reason

    async def test_handlers_are_found_by_path_or_last_name(self, trial: Trial, programs: Programs) -> None:
        for handler in ("index.api.users.create", "some/dir.d/main.api.users.create", "../../../etc/x y.api.users.create"):
            async with trial.loaded(programs.other, handler) as loaded:
                assert await loaded.answer(1) == 1
        for handler in ("index.handler", "app.api.users.none"):
            async with trial.loaded(programs.other, handler) as loaded:
                path = handler.rpartition("/")[2].partition(".")[2]
                assert await loaded.fails() == (Outcome.NO_HANDLER, path)
        async with trial.loaded(programs.echo, "index.api.v1.handler") as loaded:
            assert await loaded.answer(2) == 2

    async def test_an_exit_is_an_exit(self, trial: Trial, programs: Programs) -> None:
        for code in (0, 3):
            async with trial.loaded(programs.exit) as loaded:
                reply = await loaded.reply(code)
                assert (reply.outcome, reply.exit_code, reply.reusable) == (Outcome.EXITED, code, False)
                assert list(reply.logs) == [LogLine("info", "last words")]
                assert trial.runtime.explain(code, ["last words"]) is Outcome.EXITED

    async def test_the_context_says_who_and_how_long(self, trial: Trial, programs: Programs) -> None:
        async with trial.loaded(programs.context, memory_mb=256) as loaded:
            for id in ("11111111-2222-4333-8444-555555555555", "21111111-2222-4333-8444-555555555555"):
                reply = await loaded.reply(id=id, timeout_s=7.0)
                *names, stream, arn, left = json.loads(reply.body)
                assert names == ["my-function", "$LATEST", 256, id, "/suite/my-function"]
                assert stream[4] == stream[7] == "-" and stream[10:] == f"/{id}"
                assert arn == "arn:suite:function:my-function"
                assert 0 < left <= 7000

    async def test_the_time_left_falls(self, trial: Trial, programs: Programs) -> None:
        async with trial.loaded(programs.left_ms) as loaded:
            first, second = await loaded.answer()
            assert 0 <= second <= first - 25 < TIMEOUT_S * 1000

    async def test_printed_text_is_whole_and_in_its_own_call(self, trial: Trial, programs: Programs) -> None:
        async with trial.loaded(programs.prints) as loaded:
            reply = await loaded.reply({"out": "a\n\nb", "err": "c\n"})
            assert sorted(reply.logs) == [("info", "a"), ("info", "b"), ("warn", "c")]
            reply = await loaded.reply({"out": "x" * 300_000, "err": ""})
            assert sum(len(line.text) for line in reply.logs) >= LOG_BYTES - 2000
            assert (await loaded.reply({"out": "", "err": ""})).logs in ([], ())
