"""What runtimes decide on the host: names, files, versions, and how a process ended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spinney.errors import Unsupported
from spinney.model import Function, Outcome, Rights, Version
from spinney.ports import Limits, Load, Runtime
from spinney.runtimes import node, python
from spinney.runtimes.guest import module_name, nearest, program_mounts
from spinney.runtimes.node import NodeRuntime
from spinney.runtimes.python import PythonRuntime


def load(runtime: Runtime, source: str, handler: str = "index.handler") -> Load:
    function = Function(id="f", account_id="a", dialect="d", name="name", version_id="v", created_at=0.0, updated_at=0.0)
    version = Version(id="v", function_id="f", number=1, runtime="r", handler=handler, source=source, created_at=0.0)
    return runtime.load(function, version, Limits())


@pytest.mark.parametrize(
    ("handler", "name"),
    [
        ("index.handler", "index"),
        ("src/lib.v1/app.api.run", "app"),
        ("../../etc/passwd.x", "passwd"),
        ("..x", "index"),
        ("/.x", "index"),
        ("a b\0ü.x", "a_b__"),
        ("m" * 200 + ".x", "m" * 64),
    ],
)
def test_module_names_are_plain_file_names(handler: str, name: str) -> None:
    assert module_name(handler) == name


def test_nearest_is_the_same_then_newer_then_older() -> None:
    assert nearest(20, {18, 20, 22}) == 20
    assert nearest(20, {18, 22, 24}) == 22
    assert nearest(22, {18, 20}) == 20
    assert nearest((3, 11), {(3, 9), (3, 13), (3, 12)}) == (3, 12)
    assert nearest(20, ()) is None


@pytest.mark.parametrize(
    ("source", "files"),
    [
        ("exports.handler = async () => 1", {"index.js"}),
        ("exports.imported = 'exporter'", {"index.js"}),
        ("export const handler = 1", {"index.js", "index.mjs"}),
        ("// import", {"index.js", "index.mjs"}),
        ("x = await\n1", {"index.js", "index.mjs"}),
    ],
)
def test_a_source_that_may_be_a_module_has_both_names(source: str, files: set[str]) -> None:
    loaded = load(NodeRuntime(), source)
    assert set(loaded.files) == files and set(loaded.files.values()) == {source.encode()}
    assert json.loads(loaded.payload)["file"] == "index.js"


def test_the_load_frame() -> None:
    payload = json.loads(load(PythonRuntime(), "ü", "a/b.c").payload)
    assert payload == {
        "function": "name",
        "handler": "a/b.c",
        "file": "b.py",
        "environment": {},
        "memory_mb": 128,
        "log_group": "/d/name",
        "arn": "arn:d:function:name",
        "result_bytes": 6291456,
        "log_bytes": 262144,
    }


def test_programs_outside_usr_are_mounted(tmp_path: Path) -> None:
    assert program_mounts(Path("/usr/bin/env"), "x") == ("/usr/bin/env", ())
    program = tmp_path / "node"
    program.touch()
    path, (mount,) = program_mounts(program, "node18")
    assert (path, mount.source, mount.target) == ("/opt/spinney/node18/bin/node", str(program), path)


def test_without_the_language_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "find_programs", dict)
    monkeypatch.setattr(python, "find_pythons", dict)
    for runtime in (NodeRuntime(), PythonRuntime()):
        assert runtime.installed() == {}
        with pytest.raises(Unsupported):
            runtime.launch(runtime.ids[0], Rights())


def test_a_missing_version_is_served_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "find_programs", lambda: {22: Path("/usr/bin/node")})
    launches = {NodeRuntime().launch(id, Rights()) for id in NodeRuntime.ids}
    assert {launch.key for launch in launches} == {"node22"}


@pytest.mark.parametrize(
    ("code", "line", "outcome"),
    [
        (134, "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory", Outcome.OUT_OF_MEMORY),
        (134, "FATAL ERROR: CALL_AND_RETRY_LAST Allocation failed - JavaScript heap out of memory", Outcome.OUT_OF_MEMORY),
        (133, "# Fatal process out of memory: Zone", Outcome.OUT_OF_MEMORY),
        (132, "# Fatal JavaScript out of memory: Reached heap limit", Outcome.OUT_OF_MEMORY),
        (1, "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory", Outcome.EXITED),
        (134, "FATAL ERROR: something else", Outcome.EXITED),
        (134, "", Outcome.EXITED),
    ],
)
def test_v8_says_when_its_heap_is_full(code: int, line: str, outcome: Outcome) -> None:
    assert NodeRuntime().explain(code, ["first", line, " 1: 0xb090e0 node::Abort()"]) is outcome
