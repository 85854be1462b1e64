"""Programming model of Python functions (contract 3.1, 3.2, 3.4)."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest

from tests.dialects.impuls.api import Api, Function, envelope_of

RUNTIMES = ["python311", "python3"]

# code, handler, what it answers to {"name": "Ada"}
FORMS: list[tuple[str, str, Any]] = [
    ("def handler(event, context): return event['name']", "index.handler", "Ada"),
    ("async def handler(event, context): return event['name']", "index.handler", "Ada"),
    ("import asyncio\nasync def handler(event, context): return await asyncio.sleep(0.01, 'slept')", "index.handler", "slept"),
    ("import asyncio\nasync def f(): return 'run'\ndef handler(event, context): return asyncio.run(f())", "index.handler", "run"),
    ("handler = lambda event, context: 'lambda'", "index.handler", "lambda"),
    ("def handler(*all): return len(all)", "index.handler", 2),
    ("class Users:\n    @staticmethod\n    def create(event, context): return 'made'", "app.Users.create", "made"),
    ("class Api:\n    def __call__(self, event, context): return 'called'\nhandler = Api()", "main.handler", "called"),
    ("class Api:\n    async def run(self, event, context): return 'bound'\napi = Api()", "main.api.run", "bound"),
    ("def create(event, context): return 'last'", "app.api.users.create", "last"),
    ("def handler(event, context): pass", "index.handler", None),
    ("def handler(event, context): return (1, (2, None), True)", "index.handler", [1, [2, None], True]),
    ("def handler(event, context): return {'statusCode': 201, 'body': 'made'}", "index.handler", 201),
    ("if __name__ == '__main__': raise SystemExit(1)\ndef handler(event, context): return __name__", "app.handler", "app"),
    ("def handler(event, context): return __file__", "app.handler", "/var/task/app.py"),
    ("import os\ndef handler(event, context): return os.getcwd()", "app.handler", "/var/task"),
    ("from __future__ import annotations\n'doc'\ndef handler(event: Nothing, context): return 'lazy'", "index.handler", "lazy"),
    ("# -*- coding: latin-1 -*-\ndef handler(event, context): return 'plain'", "index.handler", "plain"),
    ("import dataclasses, enum\n@dataclasses.dataclass\nclass P:\n    x: int\ndef handler(e, c): return dataclasses.asdict(P(1))",
     "index.handler", {"x": 1}),
    ("import json\ndef handler(event, context): return json.dumps(event)", "json.handler", '{"name": "Ada"}'),
]  # fmt: skip

BAD_VALUES = [
    "{1, 2}", "float('nan')", "[float('inf')]", "{'a': float('-inf')}", "object()", "b'bytes'", "1j", "lambda: 1", "{(1, 2): 3}",
    "range(3)", "(l := [], l.append(l), l)[2]",
]  # fmt: skip

STANDARD_LIBRARY = """
    asyncio base64 bisect collections concurrent.futures contextvars csv ctypes datetime decimal difflib email enum fractions
    functools gzip hashlib heapq hmac html http.client importlib io ipaddress itertools json logging lzma math multiprocessing
    operator os pathlib pickle queue random re secrets shutil signal socket sqlite3 ssl statistics string struct subprocess
    tempfile textwrap threading time tomllib traceback types typing unicodedata unittest urllib.request uuid xml.etree.ElementTree
    zipfile zlib zoneinfo
"""


@pytest.mark.parametrize(("code", "handler", "answer"), FORMS)
def test_forms_of_handlers(api: Api, code: str, handler: str, answer: Any) -> None:
    function = api.python(code, handler=handler)
    for _ in range(2):
        envelope = function.invoke({"name": "Ada"})
        assert (envelope["status_code"] if answer == 201 else envelope["body"]) == answer


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_runtimes(api: Api, runtime: str) -> None:
    function = api.function("import sys\ndef handler(event, context): return sys.version_info[:2]", runtime=runtime)
    assert function()[0] == 3
    assert function.created["runtime"] == runtime


@pytest.mark.parametrize(
    ("code", "handler", "path"),
    [
        ("def other(event, context): pass", "index.handler", "handler"),
        ("handler = 5", "index.handler", "handler"),
        ("class api: pass", "app.api.users.create", "api.users.create"),
    ],
)
def test_no_handler(api: Api, code: str, handler: str, path: str) -> None:
    assert api.python(code, handler=handler).error() == f"Handler '{path}' is not a function"


def test_both_arguments_are_always_given(api: Api) -> None:
    error = api.python("def handler(event): return 1").error()
    assert "takes 1 positional argument but 2 were given" in error


@pytest.mark.parametrize(
    ("event", "shown"),
    [
        (True, "True"),
        (None, "None"),
        (1, "1"),
        (1.5, "1.5"),
        ("x", "'x'"),
        ([1, [None]], "[1, [None]]"),
        ({"a": False}, "{'a': False}"),
    ],
)
def test_events_are_plain_python(api: Api, event: Any, shown: str) -> None:
    assert api.python("def handler(event, context): return repr(event)").invoke_text(json.dumps(event))["body"] == shown


@pytest.mark.parametrize("value", BAD_VALUES)
def test_values_without_json(py: Function, value: str) -> None:
    error = py.error(f"value = {value}")
    assert error.startswith("function result is not JSON-serializable: ")
    assert len(error) > len("function result is not JSON-serializable: ")


def test_context(api: Api) -> None:
    code = """
NAMES = ("function_name function_version memory_limit_in_mb aws_request_id log_group_name log_stream_name "
         "invoked_function_arn").split()
def handler(event, context):
    return {name: getattr(context, name) for name in NAMES}
"""
    function = api.python(code, memory_mb=192)
    response = function.post({})
    id = response.headers["x-execution-id"]
    body = envelope_of(response)["body"]
    day, _, tail = body.pop("log_stream_name").partition("/")
    assert body == {
        "function_name": function.name,
        "function_version": "$LATEST",
        "memory_limit_in_mb": 192,
        "aws_request_id": id,
        "log_group_name": f"/impuls/{function.name}",
        "invoked_function_arn": f"arn:impuls:function:{function.name}",
    }
    assert tail == id
    today = datetime.datetime.now(datetime.UTC).date()
    assert datetime.date.fromisoformat(day) in (today, today - datetime.timedelta(days=1))


def test_remaining_time_falls_from_the_timeout(api: Api) -> None:
    code = """
import time
def handler(event, context):
    first = context.get_remaining_time_in_millis()
    time.sleep(0.05)
    return [first, context.get_remaining_time_in_millis()]
"""
    function = api.python(code, timeout_sec=7)
    for _ in range(2):
        first, second = function()
        assert 0 < second <= first - 45 and first <= 7000


def test_the_standard_library(py: Function) -> None:
    assert (
        py(f"import importlib\nfor name in {STANDARD_LIBRARY.split()!r}: importlib.import_module(name)\nvalue = 'all'") == "all"
    )


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import subprocess, sys\nvalue = subprocess.check_output([sys.executable, '-c', 'print(23)']).decode()", "23\n"),
        ("import sqlite3\nvalue = sqlite3.connect(':memory:').execute('select 1 + 1').fetchone()", [2]),
        ("import threading\nvalue = []\nt = threading.Thread(target=value.append, args=(1,))\nt.start(); t.join()", [1]),
        ("import multiprocessing\nwith multiprocessing.Pool(2) as pool: value = pool.map(abs, [-1, -2])", [1, 2]),
        ("import tempfile\nwith tempfile.TemporaryFile() as f:\n    value = f.write(b'abc')", 3),
        ("import sys\nvalue = [sys.stdout.encoding, sys.getfilesystemencoding()]", ["utf-8", "utf-8"]),
        ("import asyncio\nvalue = asyncio.run(asyncio.sleep(0, 'slept'))", "slept"),
    ],
)
def test_the_runtime_works_normally(api: Api, source: str, expected: Any) -> None:
    lines = source.replace("\n", "\n    ")
    assert api.python(f"def handler(event, context):\n    {lines}\n    return value", memory_mb=256)() == expected


def test_module_globals_survive_in_a_warm_sandbox_only_for_their_version(api: Api) -> None:
    function = api.python("runs = []\nasync def handler(event, context):\n    runs.append(1)\n    return len(runs)")
    counts = [function() for _ in range(5)]
    assert counts[0] == 1 and max(counts) > 1
    function.update(description="a new version")
    assert function() == 1
