"""The Python guest in detail, as a bare process (Impuls contract 3.4, 3.5, 3.6)."""

from __future__ import annotations

import json
import textwrap
from contextlib import AbstractContextManager
from typing import Any

import pytest
from tests.unit.guests import call, loaded_guest

from spinney.model import Call, LogLine, Outcome, Reply
from spinney.runtimes.python import PythonRuntime
from spinney.testing.guest_process import GuestProcess

RUNTIME = PythonRuntime()


def loaded(source: str, **options: Any) -> AbstractContextManager[GuestProcess]:
    return loaded_guest(RUNTIME, "python311", source, **options)


def run(source: str, event: Any = None, **options: Any) -> Reply:
    with loaded(source, **options) as guest:
        return call(guest, event)


def value(reply: Reply) -> Any:
    assert reply.outcome is Outcome.OK, reply
    return json.loads(reply.body)


def body(lines: str, head: str = "", kind: str = "def") -> str:
    """A source whose handler has these lines."""
    return f"{head}\n{kind} handler(event, context):\n{textwrap.indent(textwrap.dedent(lines).strip(), '    ')}\n"


# -- calling -----------------------------------------------------------------------------------------------------------

ASYNC = {
    "sleep": ("await asyncio.sleep(0.001); return 1", 1),
    "timeout": ("async with asyncio.timeout(5): return 2", 2),
    "thread": ("return await asyncio.to_thread(lambda: 3)", 3),
    "task": ("return await asyncio.create_task(asyncio.sleep(0, 4))", 4),
    "gather": ("return await asyncio.gather(asyncio.sleep(0, 5), asyncio.sleep(0, 6))", [5, 6]),
    "stopped loop": ("asyncio.get_running_loop().stop(); await asyncio.sleep(0.001); return 7", 7),
    "subprocess": ("return await (await asyncio.create_subprocess_exec('true')).wait()", 0),
}


@pytest.mark.parametrize(("lines", "expected"), ASYNC.values(), ids=ASYNC.keys())
def test_asynchronous_handlers(lines: str, expected: Any) -> None:
    with loaded(body(lines.replace("; ", "\n"), "import asyncio", "async def")) as guest:
        assert [value(call(guest)) for _ in range(2)] == [expected] * 2


SYNC = {
    "asyncio.run": ("return asyncio.run(asyncio.sleep(0, 1))", 1),
    "the current loop": ("return asyncio.get_event_loop().run_until_complete(asyncio.sleep(0, 2))", 2),
    "any awaitable": ("return Awaitable()", 3),
    "a closed loop": ("asyncio.get_event_loop().close()\nreturn Awaitable()", 3),
}
AWAITABLE = """
import asyncio
class Awaitable:
    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return 3
"""


@pytest.mark.parametrize(("lines", "expected"), SYNC.values(), ids=SYNC.keys())
def test_synchronous_handlers_may_use_asyncio(lines: str, expected: Any) -> None:
    assert value(run(body(lines, AWAITABLE))) == expected


def test_one_event_loop_for_all_calls() -> None:
    source = body("loops.append(asyncio.get_running_loop()); return len(set(loops))", "import asyncio\nloops = []", "async def")
    with loaded(source) as guest:
        assert [value(call(guest)) for _ in range(3)] == [1, 1, 1]


RAISED = {
    "raise ValueError('bad')": "bad",
    "raise ValueError": "ValueError",
    "raise KeyError('k')": "'k'",
    "raise KeyboardInterrupt": "KeyboardInterrupt",
    "raise type('Odd', (Exception,), {'__str__': lambda self: 1})": "Odd",
    "return handler(event, context)": "maximum recursion depth exceeded",
    "import nothing_there": "No module named 'nothing_there'",
}


@pytest.mark.parametrize(("lines", "message"), RAISED.items(), ids=RAISED.keys())
def test_messages_of_exceptions(lines: str, message: str) -> None:
    with loaded(body(lines)) as guest:
        for _ in range(2):
            reply = call(guest)
            assert (reply.outcome, reply.message[: len(message)], reply.reusable) == (Outcome.ERROR, message, True)


BEHIND = {
    "callback": "asyncio.get_running_loop().call_later(0.001, fail)",
    "task": "asyncio.create_task(fail_later())",
    "thread": "threading.Thread(target=fail).start()",
    "timer": "threading.Timer(0.001, fail).start()",
}
FAIL = """
import asyncio, threading
def fail(): raise RuntimeError("behind")
async def fail_later(): fail()
"""


@pytest.mark.parametrize("lines", BEHIND.values(), ids=BEHIND.keys())
def test_exceptions_that_nobody_catches_fail_the_running_call(lines: str) -> None:
    reply = run(body(f"{lines}\nawait asyncio.sleep(5)", FAIL, "async def"))
    assert (reply.outcome, reply.message, reply.reusable) == (Outcome.ERROR, "behind", False)


@pytest.mark.parametrize(
    ("lines", "code"), [("sys.exit()", 0), ("sys.exit(3)", 3), ("sys.exit('why')", 1), ("os._exit(4)", 4), ("os.abort()", 134)]
)
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_exits(lines: str, code: int, kind: str) -> None:
    reply = run(body(f"print('said', end='')\n{lines}", "import os, sys", kind))
    assert (reply.outcome, reply.exit_code) == (Outcome.EXITED, code)
    assert LogLine("info", "said") in reply.logs


def test_a_memory_error_ends_the_process_unless_it_is_caught() -> None:
    for source in (body("bytearray(1 << 60)"), body("bytearray(1 << 60)", kind="async def"), "bytearray(1 << 60)"):
        reply = run(source)
        assert reply.outcome is Outcome.EXITED and reply.exit_code is not None
        assert RUNTIME.explain(reply.exit_code, [line.text for line in reply.logs]) is Outcome.OUT_OF_MEMORY
    assert value(run(body("try: bytearray(1 << 60)\nexcept MemoryError: return 'caught'"))) == "caught"
    assert RUNTIME.explain(1, ["MemoryError in the text"]) is RUNTIME.explain(3, ["MemoryError"]) is Outcome.EXITED


# -- loading -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def handler(event, context)\n", "expected ':' (index.py, line 1)"),
        ("x = '\0'", "source code string cannot contain null bytes"),
        ("raise ValueError('at load')", "at load"),
        ("1 / 0", "division by zero"),
    ],
)
def test_load_errors(source: str, message: str) -> None:
    reply = run(source)
    assert (reply.outcome, reply.message, reply.logs) == (Outcome.LOAD_ERROR, message, [])


def test_a_module_may_have_the_name_of_another() -> None:
    for name in ("json", "asyncio", "random", "spinney_guest", "main", "a-b c"):
        source = body("import json, random\nreturn [json.loads('1'), random.choice('a'), __file__]")
        with loaded(source, handler=f"{name}.handler") as guest:
            assert value(call(guest)) == [1, "a", f"{guest.directory}/{name.replace(' ', '_')}.py"]


def test_classes_can_be_found_by_their_module() -> None:
    head = (
        "from __future__ import annotations\nimport dataclasses, pickle\n@dataclasses.dataclass\nclass Point:\n    x: int = 5\n"
    )
    assert value(run(body("return pickle.loads(pickle.dumps(Point())).x", head))) == 5


# -- values ------------------------------------------------------------------------------------------------------------


def test_reasons_for_values_without_json() -> None:
    for made, reason in (
        ("{1}", "Object of type set is not JSON serializable"),
        ("float('nan')", "Out of range float values are not JSON compliant"),
        ("{(1, 2): 3}", "keys must be str, int, float, bool or None, not tuple"),
        ("loop", "Circular reference detected"),
    ):
        reply = run(body(f"return {made}", "loop = []\nloop.append(loop)"))
        assert (reply.outcome, reply.message[: len(reason)]) == (Outcome.BAD_RESULT, reason)


def test_values() -> None:
    assert run(body("return (1, {2: None}, 'ü\\ud83d', True)")).body == rb'[1,{"2":null},"\u00fc\ud83d",true]'
    assert value(run(body("return '[' * 600"))) == "[" * 600
    quoted = '[[{"\\[' * 600
    assert value(run(body("return [[event]] * 600"), quoted)) == [[quoted]] * 600


def test_frames_may_arrive_in_any_pieces() -> None:
    with loaded(body("return len(event)"), chunk_bytes=7) as guest:
        assert [value(call(guest, "x" * size)) for size in (0, 100, 70_000, 5)] == [0, 100, 70_000, 5]


# -- logs and surroundings ---------------------------------------------------------------------------------------------


def test_logging() -> None:
    lines = """
        logging.debug("unseen")
        logging.getLogger("lib").info("%s=%d", "a", 1)
        logging.warning("two\\nlines")
        logging.getLogger("lib").error("e")
        try: 1 / 0
        except ZeroDivisionError: logging.exception("caught")
        logging.getLogger().setLevel(logging.DEBUG)
        logging.debug("ü\\ud83d")
    """
    logs = run(body(lines, "import logging\nlogging.basicConfig(level=logging.DEBUG)")).logs
    assert [line for line in logs if not line.text.startswith("caught\nTraceback")] == [
        LogLine("info", "a=1"),
        LogLine("warn", "two\nlines"),
        LogLine("error", "e"),
        LogLine("info", "ü\\ud83d"),
    ]
    assert len(logs) == 5


def test_threads_log_for_the_call_that_started_them() -> None:
    lines = """
        thread = threading.Thread(target=logging.info, args=("thread",))
        thread.start()
        thread.join()
        pool.submit(logging.info, "pool").result()
        return threading.active_count()
    """
    head = "import concurrent.futures, logging, threading\npool = concurrent.futures.ThreadPoolExecutor(1)\n"
    with loaded(body(lines, head)) as guest:
        for _ in range(2):
            assert call(guest).logs == [LogLine("info", "thread"), LogLine("info", "pool")]


def test_printing_what_has_no_utf8_form() -> None:
    assert run(body("print('ü\\ud83d')")).logs == [LogLine("info", "ü\\ud83d")]


def test_forked_children_have_no_channel_and_speak_through_the_streams() -> None:
    lines = """
        process = multiprocessing.Process(target=work)
        process.start()
        process.join()
        if event == "return" and os.fork() == 0:
            return "twice"
        return [process.exitcode, subprocess.run(["readlink", "/proc/self/fd/3"], close_fds=False).returncode]
    """
    head = "import logging, multiprocessing, os, subprocess\ndef work():\n    logging.warning('child')\n    os.write(1, b'raw')\n"
    with loaded(body(lines, head)) as guest:
        for event in ("return", "stay"):
            reply = call(guest, event)
            assert value(reply) == [0, 1]
            assert sorted(reply.logs) == [LogLine("info", "raw"), LogLine("warn", "child")]


def test_the_environment_object_may_be_replaced() -> None:
    lines = """
        seen = dict(os.environ), time.localtime(0).tm_hour
        os.environ["TZ"] = "UTC"
        time.tzset()
        os.environ = {"A": "own"}
        return seen
    """
    with loaded(body(lines, "import os, time"), environment={"A": "1", "TZ": "Asia/Tokyo"}) as guest:
        first, hour = value(call(guest))
        assert (first["A"], hour) == ("1", 9)
        assert value(call(guest)) == [first, 9]


PATCHES = {
    "json": "json.dumps = json.loads = json.JSONEncoder.encode = json.JSONDecoder.decode = None",
    "os": "os.read = os.write = os._exit = None",
    "time": "time.monotonic = time.gmtime = time.strftime = None",
    "streams": "sys.stdout = sys.stderr = None",
    "closed streams": "sys.stdout.close(); sys.stderr.close()",
    "logging": "logging.getLogger().handlers.clear(); logging.disable()",
    "recursion": "sys.setrecursionlimit(60)",
    "modules": "sys.modules.clear(); sys.path.clear()",
    "directory": "os.chdir('/')",
}


@pytest.mark.parametrize("patch", PATCHES.values(), ids=PATCHES.keys())
def test_patched_libraries_do_not_break_answers(patch: str) -> None:
    source = body(f"if event == 0:\n    {patch}\nreturn 'mine'", "import json, logging, os, sys, time")
    with loaded(source) as guest:
        assert [value(call(guest, event)) for event in range(3)] == ["mine"] * 3


def test_what_stands_behind_a_call_stays_unread() -> None:
    with loaded(body("logging.info('begun')\nwhile True: pass", "import logging")) as guest:
        assert guest.unread_behind(Call("id", b"{}", 10.0), 10.0) > 0


def test_nothing_is_run_behind_an_answer_that_makes_it_unfit() -> None:
    source = body(
        """
        threading.Thread(target=lambda: 1 / 0).start()
        time.sleep(0.2)
        """,
        "import threading, time",
    )
    with loaded(source) as guest:
        assert not call(guest).reusable
        assert guest.unread_behind_the_end(Call("id", b"{}", 10.0)) > 0
