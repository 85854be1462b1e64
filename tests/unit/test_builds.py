"""The build service with a compiler that does what its source says: order, restarts, late results, what is remembered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import msgspec
import pytest
from tests.unit.conftest import ManualClock

from spinney.core import builds as module
from spinney.core.budget import Budget
from spinney.core.builds import Builds
from spinney.core.functions import Functions
from spinney.core.index import Index, Target
from spinney.core.workshop import Workshop
from spinney.drivers.fake import Exit, FakeDriver, FakeSandbox, NeverDriver
from spinney.errors import Error, NotFound, Unavailable
from spinney.model import Build, BuildStatus, Call, Function, Outcome, Reply, Version
from spinney.ports import Compiled, Driver, Launch, ModuleFacts, Prepared, SandboxSpec, Store
from spinney.stores.blobs import FileBlobs

pytestmark = pytest.mark.anyio

PENDING, COMPILING, READY, FAILED = BuildStatus
MAGIC = b"\0asm"


class ToyCompiler:
    """A source that begins with ``error`` is wrong; others become a module that holds them."""

    name = "toy"
    languages = ("toy",)
    memory_mb = 64
    sample = "sample"
    toolchain: str | None = "toy 1"

    def installed(self) -> Mapping[str, str]:
        return {} if self.toolchain is None else {"toy": self.toolchain}

    def launch(self, language: str) -> Launch:
        return Launch(key="toy", argv=("toy",))

    def request(self, language: str, source: str) -> bytes:
        return source.encode("utf-8", "replace")

    def result(self, reply: Reply) -> Compiled | None:
        if reply.body.startswith(MAGIC):
            return Compiled(module=reply.body)
        if reply.body.startswith(b"nonsense"):
            return None
        return Compiled(error=reply.body.decode(), lasting=not reply.body.startswith(b"error once"))

    def check(self, facts: ModuleFacts, memory_mb: int) -> str | None:
        return f"Unsupported import {facts.imports[0][1]}" if facts.imports else None


class ToyEngine:
    """Its executables are the modules backwards."""

    runtime_id = "wasm"
    release = "1"

    def installed_version(self) -> str:
        return self.release

    def launch_tool(self) -> Launch:
        return Launch(key="tool", argv=("tool",))

    def prepared(self, reply: Reply) -> Prepared | None:
        imports = (("env", "bad", "()->()"),) if b"import" in reply.body[::-1] else ()
        return Prepared(facts=ModuleFacts(imports=imports), executable=reply.body)


class ToyShop(FakeDriver):
    """Sandboxes of both tools. Sources wait at the gate when they say so; ``seen`` holds what was compiled, in order."""

    def __init__(self) -> None:
        super().__init__(self._work)
        self.seen: list[str] = []
        self.prepared = 0
        self.running = 0
        self.running_most = 0
        self.gate = asyncio.Event()
        self.in_background: set[bool] = set()

    async def create(self, spec: SandboxSpec) -> FakeSandbox:
        sandbox = await super().create(spec)
        assert isinstance(sandbox, FakeSandbox)
        self.in_background.add(spec.limits.background)
        assert not spec.rights.net
        return sandbox

    async def _work(self, sandbox: FakeSandbox, call: Call) -> bytes:
        if call.body.startswith(MAGIC):
            self.prepared += 1
            return call.body[::-1]
        source = call.body.decode()
        self.seen.append(source)
        self.running += 1
        self.running_most = max(self.running, self.running_most)
        try:
            if "wait" in source:
                await self.gate.wait()
            if "hang" in source:
                await asyncio.Event().wait()
            if "die" in source:
                raise Exit(139)
        finally:
            self.running -= 1
        return call.body if source.startswith(("error", "nonsense")) else MAGIC + call.body


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.to_thread(time.sleep, 0.001)


class Yard:
    """Functions with builds over one store; ``restarted`` is the same after a crash."""

    def __init__(self, store: Store, clock: ManualClock, directory: Path, driver: Driver, parallel: int = 2) -> None:
        self.store, self.clock, self.directory, self.driver = store, clock, directory, driver
        self.index = Index()
        self.compiler, self.engine = ToyCompiler(), ToyEngine()
        self.blobs = FileBlobs(directory / "blobs")
        self.workshop = Workshop(driver, Budget(1 << 40))
        self.builds = Builds(store, self.blobs, self.index, clock, self.workshop, [self.compiler], self.engine, parallel=parallel)
        self.functions = Functions(store, self.index, clock, self.builds.forget, self.builds.follow, self.builds.plan)

    async def restarted(self, driver: Driver, parallel: int = 2) -> Yard:
        await self.close()
        again = Yard(self.store, self.clock, self.directory, driver, parallel)
        await again.functions.open()
        await again.builds.open()
        return again

    async def create(self, name: str, source: str, runtime: str = "wasm") -> Target:
        version = {"runtime": runtime, "handler": "", "source": source, "settings": {"language": "toy"}}
        function, _ = await self.functions.create(account_id="default", dialect="test", name=name, version=version)
        return self.target(function)

    def target(self, function: Function) -> Target:
        target = self.index.get_function(function.id)
        assert target is not None
        return target

    async def update(self, target: Target, source: str) -> Target:
        function, _ = await self.functions.update(target.function.id, version={"source": source})
        return self.target(function)

    def status(self, target: Target) -> BuildStatus | None:
        build = self.builds.get(target.id)
        return build.status if build else None

    async def reach(self, target: Target, *statuses: BuildStatus) -> Build:
        """Wait until a build has one of these statuses."""
        await until(lambda: self.status(target) in statuses)
        build = self.builds.get(target.id)
        assert build is not None
        return build

    async def end(self, target: Target) -> Build:
        return await self.reach(target, READY, FAILED)

    async def close(self) -> None:
        await self.builds.close()
        await self.workshop.close()


@pytest.fixture
def shop() -> ToyShop:
    return ToyShop()


@pytest.fixture
async def yard(store: Store, clock: ManualClock, tmp_path: Path, shop: ToyShop) -> AsyncIterator[Yard]:
    yard = Yard(store, clock, tmp_path, shop)
    yield yard
    await yard.close()


# -- one build ---------------------------------------------------------------------------------------------------------


async def test_a_build_goes_through_its_states(yard: Yard, shop: ToyShop, store: Store) -> None:
    target = await yard.create("f", "wait")
    assert yard.status(target) is PENDING
    running = await yard.reach(target, COMPILING)
    shop.gate.set()
    done = await yard.end(target)
    assert done.status is READY
    assert done.artifact is not None
    assert done.created_at < running.changed_at < done.changed_at
    assert await yard.builds.executable(target.id) == (MAGIC + b"wait")[::-1]
    assert await store.get(Build, target.id) == done
    assert await yard.builds.error(target.id) is None


async def test_a_source_with_an_error(yard: Yard) -> None:
    target = await yard.create("f", "error: it is wrong")
    done = await yard.end(target)
    assert (done.status, done.artifact) == (FAILED, None)
    assert await yard.builds.error(target.id) == "error: it is wrong"
    with pytest.raises(NotFound):
        await yard.builds.executable(target.id)


async def test_a_long_error_is_cut(yard: Yard) -> None:
    target = await yard.create("f", "error " + "é" * 40_000)
    await yard.end(target)
    error = await yard.builds.error(target.id)
    assert error is not None
    assert 65_534 <= len(error.encode()) <= 65_536


async def test_a_module_that_breaks_a_rule(yard: Yard) -> None:
    target = await yard.create("f", "import")
    await yard.end(target)
    assert await yard.builds.error(target.id) == "Unsupported import bad"


async def test_versions_that_need_no_build_have_none(yard: Yard, store: Store) -> None:
    target = await yard.create("f", "x", runtime="nodejs22")
    assert yard.builds.get(target.id) is None
    assert await store.find(Build) == []


async def test_compilers_work_in_the_background_and_have_no_network(yard: Yard, shop: ToyShop) -> None:
    await yard.end(await yard.create("f", "x"))
    assert shop.in_background == {True}


# -- many --------------------------------------------------------------------------------------------------------------


async def test_two_builds_at_a_time(yard: Yard, shop: ToyShop) -> None:
    targets = [await yard.create(f"f{n}", f"wait {n}") for n in range(30)]
    await yard.reach(targets[1], COMPILING)
    assert [yard.status(target) for target in targets] == [COMPILING] * 2 + [PENDING] * 28
    assert yard.builds.counts() == {PENDING: 28, COMPILING: 2}
    shop.gate.set()
    for target in targets:
        assert (await yard.end(target)).status is READY
    starts = [build.started_at for build in map(yard.builds.get, [target.id for target in targets]) if build]
    assert starts == sorted(starts, key=lambda moment: moment or 0)
    assert shop.running_most == 2
    assert shop.created == 4, "two sandboxes of the compiler and two of the tool serve all"


async def test_builds_run_in_order(yard: Yard, shop: ToyShop) -> None:
    single = await yard.restarted(shop, parallel=1)
    targets = [await single.create(f"f{n}", str(n)) for n in range(30)]
    await single.end(targets[-1])
    assert shop.seen == [str(n) for n in range(30)]
    await single.close()


async def test_a_slow_build_holds_up_no_other(yard: Yard) -> None:
    slow = await yard.create("slow", "wait")
    for n in range(5):
        await yard.end(await yard.create(f"f{n}", str(n)))
    assert yard.status(slow) is COMPILING


# -- what is remembered ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["same", "error same", "import same"])
async def test_the_same_source_is_compiled_once(yard: Yard, shop: ToyShop, source: str) -> None:
    first = await yard.end(await yard.create("a", source))
    again = await yard.create("b", source)
    assert yard.status(again) is PENDING
    second = await yard.end(again)
    assert (second.status, second.artifact) == (first.status, first.artifact)
    assert await yard.builds.error(again.id) == await yard.builds.error(first.id)
    assert shop.seen == [source]


async def test_what_is_remembered_outlives_its_function_and_the_server(yard: Yard, shop: ToyShop) -> None:
    target = await yard.create("a", "same")
    await yard.end(target)
    await yard.functions.delete(target)
    again = await yard.restarted(shop)
    await again.end(await again.create("b", "same"))
    assert shop.seen == ["same"]
    await again.close()


async def test_another_toolchain_compiles_anew(yard: Yard, shop: ToyShop) -> None:
    await yard.end(await yard.create("a", "same"))
    yard.compiler.toolchain = "toy 2"
    await yard.end(await yard.create("b", "same"))
    assert shop.seen == ["same", "same"]


@pytest.mark.parametrize("source", ["error once", "nonsense", "die"])
async def test_what_may_not_come_again_is_not_remembered(yard: Yard, shop: ToyShop, source: str) -> None:
    assert (await yard.end(await yard.create("a", source))).status is FAILED
    assert (await yard.end(await yard.create("b", source))).status is FAILED
    assert shop.seen == [source] * 2


async def test_another_engine_prepares_the_artifact_anew(yard: Yard, shop: ToyShop) -> None:
    target = await yard.create("a", "x")
    await yard.end(target)
    yard.engine.release = "2"
    for _ in range(2):
        assert await yard.builds.executable(target.id) == (MAGIC + b"x")[::-1]
    assert (shop.seen, shop.prepared) == (["x"], 2)


async def test_the_sweep_keeps_what_is_needed(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, gone = await yard.create("a", "kept"), await yard.create("b", "gone")
    await yard.end(kept)
    await yard.end(gone)
    await yard.functions.delete(gone)
    assert await yard.builds.sweep() == 0, "it was used just now"
    monkeypatch.setattr(module, "KEEP_UNUSED_S", -10.0)
    assert await yard.builds.sweep() == 4, "module and executable of one, and both memories"
    assert await yard.builds.executable(kept.id) == (MAGIC + b"kept")[::-1]


# -- failures ----------------------------------------------------------------------------------------------------------


async def test_time_runs_out(yard: Yard, shop: ToyShop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMIT_S", 0.05)
    target = await yard.create("f", "hang")
    await yard.end(target)
    assert await yard.builds.error(target.id) == "Compilation timed out after 30 seconds"
    monkeypatch.undo()
    assert (await yard.end(await yard.create("g", "x"))).status is READY


async def test_a_compiler_that_dies_is_replaced(yard: Yard, shop: ToyShop) -> None:
    target = await yard.create("f", "die")
    await yard.end(target)
    assert await yard.builds.error(target.id) == "Compiler crashed: exit code 139"
    assert (await yard.end(await yard.create("g", "x"))).status is READY


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (Reply(Outcome.OUT_OF_MEMORY, exit_code=137), "Compilation ran out of memory"),
        (Reply(Outcome.ERROR, message="stack overflow"), "Compiler crashed: stack overflow"),
    ],
)
def test_what_outcomes_mean(reply: Reply, text: str) -> None:
    verdict = module._outcome(reply)
    assert verdict is not None
    assert (verdict.error, verdict.artifact, verdict.lasting) == (text, None, False)


async def test_builds_wait_while_no_sandbox_starts(yard: Yard, shop: ToyShop) -> None:
    yard.workshop._driver = NeverDriver(shop)
    target = await yard.create("f", "x")
    await until(lambda: len(yard.clock.slept) > 2)
    assert yard.status(target) in (PENDING, COMPILING)
    yard.workshop._driver = shop
    assert (await yard.end(target)).status is READY


async def test_builds_wait_for_a_compiler_that_is_not_installed(yard: Yard) -> None:
    yard.compiler.toolchain = None
    assert yard.builds.languages() == []
    target = await yard.create("f", "x")
    await until(lambda: bool(yard.clock.slept))
    yard.compiler.toolchain = "toy 1"
    assert yard.builds.languages() == ["toy"]
    assert (await yard.end(target)).status is READY


async def test_a_fault_of_ours_is_no_fault_of_the_source(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(reply: Reply) -> None:
        monkeypatch.undo()
        raise RuntimeError("a fault")

    monkeypatch.setattr(yard.compiler, "result", fail, raising=False)
    assert (await yard.end(await yard.create("f", "x"))).status is READY


# -- changes meanwhile -------------------------------------------------------------------------------------------------


async def test_the_last_of_several_updates_wins(yard: Yard, shop: ToyShop) -> None:
    target = await yard.create("f", "wait first")
    await yard.reach(target, COMPILING)
    second = await yard.update(target, "wait second")
    await yard.reach(second, COMPILING)
    third = await yard.update(second, "third, skipped")
    last = await yard.update(third, "last")
    assert yard.status(last) is PENDING
    shop.gate.set()
    assert (await yard.end(last)).status is READY
    assert await yard.builds.executable(last.id) == (MAGIC + b"last")[::-1]
    assert shop.seen == ["wait first", "wait second", "last"]
    assert [yard.builds.get(old.id) for old in (target, second, third)] == [None] * 3


async def test_an_executable_of_a_version_that_was_just_replaced(yard: Yard) -> None:
    target = await yard.create("f", "old")
    await yard.end(target)
    await yard.end(await yard.update(target, "new"))
    assert await yard.builds.executable(target.id) == (MAGIC + b"old")[::-1]


async def test_an_update_of_nothing_but_the_description_needs_no_build(yard: Yard, shop: ToyShop) -> None:
    target = await yard.create("f", "x")
    await yard.end(target)
    await yard.functions.update(target.function.id, version={"source": "x"}, description="new", if_changed=True)
    assert yard.status(target) is READY
    assert shop.seen == ["x"]


@pytest.mark.parametrize("source", ["old", "error old"])
async def test_a_version_that_is_current_again_needs_no_second_build(yard: Yard, shop: ToyShop, source: str) -> None:
    old = await yard.create("f", source)
    first = await yard.end(old)
    new = await yard.update(old, "new")
    await yard.end(new)
    await yard.functions.activate(old.function.id, old.id)
    assert await yard.end(old) == first
    assert (await yard.builds.error(old.id) is None) == (first.status is READY)
    assert shop.seen == [source, "new"]


@pytest.mark.parametrize("source", ["wait", "waits behind two others"])
async def test_a_function_that_is_deleted_never_comes_back(yard: Yard, shop: ToyShop, store: Store, source: str) -> None:
    if source != "wait":
        for n in range(2):
            await yard.reach(await yard.create(f"other{n}", "wait"), COMPILING)
    target = await yard.create("f", source)
    if source == "wait":
        await yard.reach(target, COMPILING)
    await yard.functions.delete(target)
    shop.gate.set()
    await yard.end(await yard.create("g", "behind it"))
    assert yard.builds.get(target.id) is None
    assert await store.get(Build, target.id) is None
    assert yard.index.get_function(target.function.id) is None


# -- restarts ----------------------------------------------------------------------------------------------------------


async def test_a_restart_queues_what_was_not_finished_in_its_order(yard: Yard, shop: ToyShop) -> None:
    done = await yard.create("done", "done")
    wrong = await yard.create("wrong", "error")
    await yard.end(done)
    await yard.end(wrong)
    targets = [await yard.create(f"f{n}", f"wait {n}") for n in range(4)]
    await yard.reach(targets[1], COMPILING)
    newest = await yard.update(targets[0], "newest")
    driver = ToyShop()
    driver.gate.set()
    again = await yard.restarted(driver, parallel=1)
    assert (again.status(done), again.status(wrong)) == (READY, FAILED)
    assert await again.builds.error(wrong.id) == "error"
    assert await again.builds.executable(done.id) == (MAGIC + b"done")[::-1]
    for target in (*targets[1:], newest):
        assert (await again.end(target)).status is READY
    assert driver.seen == ["wait 1", "wait 2", "wait 3", "newest"]
    await again.close()


async def test_closing_drops_what_runs(yard: Yard, shop: ToyShop, store: Store) -> None:
    target = await yard.create("f", "wait")
    await yard.reach(target, COMPILING)
    await yard.close()
    assert shop.sandboxes == {}
    stored = await store.get(Build, target.id)
    assert stored is not None
    assert stored.status is PENDING


async def test_a_build_is_stored_with_its_version_or_neither(yard: Yard, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    target = await yard.create("f", "x")
    await yard.end(target)

    def twice(function: Function, version: Version) -> list[Build]:
        return [msgspec.structs.replace(build, id=target.id) for build in yard.builds.plan(function, version)]

    monkeypatch.setattr(yard.functions, "_plan", twice)
    with pytest.raises(Error):
        await yard.update(target, "y")
    assert len(await store.find(Version)) == 1
    assert yard.target(target.function).version.number == 1


async def test_an_artifact_that_is_lost(yard: Yard, tmp_path: Path) -> None:
    target = await yard.create("f", "x")
    await yard.end(target)
    for file in (tmp_path / "blobs").glob("*/*"):
        file.unlink()
    with pytest.raises(Unavailable, match="the artifact is gone"):
        await yard.builds.executable(target.id)


# -- the workshop ------------------------------------------------------------------------------------------------------


async def test_one_sandbox_of_a_kept_kind_is_always_ready(yard: Yard, shop: ToyShop) -> None:
    running = asyncio.create_task(yard.workshop.run())
    tools = yard.builds._tools("toy")
    yard.workshop.keep(tools.kind)
    await _count(yard, 1)
    for sandbox in list(shop.sandboxes.values()):
        sandbox.end(137)
    reply = await yard.workshop.call(tools.kind, b"x", 5.0)
    assert reply.outcome is Outcome.OK
    await yard.workshop.call(tools.kind, b"die", 5.0)
    await _count(yard, 1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_sandboxes_that_nobody_needs_are_closed(yard: Yard, shop: ToyShop, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = yard.builds._tools("toy").kind
    shop.gate.set()
    await asyncio.gather(*(yard.workshop.call(kind, b"wait", 5.0) for _ in range(3)))
    assert yard.workshop.counts() == {"toy": 3}
    monkeypatch.setattr("spinney.core.workshop.IDLE_S", 0.0)
    running = asyncio.create_task(yard.workshop.run())
    await _count(yard, 0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert shop.sandboxes == {}


async def _count(yard: Yard, idle: int) -> None:
    await until(lambda: yard.workshop.counts().get("toy") == idle)


def test_limits_of_compilers_are_their_own() -> None:
    kind = module.compiler_kind(ToyCompiler(), "toy")
    assert kind.limits.memory_mb == 64
    assert kind.limits.background
