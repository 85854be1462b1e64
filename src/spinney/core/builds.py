"""Builds: versions in compiled languages get their artifacts, in order of arrival (docs/decisions/0007-builds.md).

A Build is stored together with its version, so none is lost; that one runs is known in memory only, and it starts anew after a
restart.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import msgspec
import structlog

from spinney.core.index import Index, Target
from spinney.core.stems import Kind
from spinney.core.turns import Turns
from spinney.core.workshop import Workshop
from spinney.errors import Error, NotFound, Unavailable
from spinney.model import Build, BuildStatus, Function, Outcome, Reply, Version
from spinney.ports import Blobs, Clock, Compiler, Engine, Limits, ModuleFacts, Prepared, Store

log = structlog.get_logger("spinney.builds")

FINAL = (BuildStatus.READY, BuildStatus.FAILED)
LIMIT_S = 30.0
ERROR_BYTES = 65536
MODULE_BYTES = 16 << 20
EXECUTABLE_BYTES = 64 << 20
TOOL_MEMORY_MB = 1024
RETRY_S = 5.0
"""How long a build waits after a fault that is not its author's: no sandbox could be started, the store is down."""
SWEEP_EVERY_S = 3600.0
KEEP_UNUSED_S = 7 * 86400.0
"""What no current version needs stays for so long after its last use, for sources that come again."""

TIMED_OUT = f"Compilation timed out after {LIMIT_S:.0f} seconds"
NO_MEMORY = "Compilation ran out of memory"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a build: an artifact, or an error. ``lasting`` ones are remembered for the same source."""

    artifact: str | None = None
    error: str | None = None
    lasting: bool = True


Check = Callable[[ModuleFacts, int], str | None]
"""As ``Compiler.check``."""


class _Tools(NamedTuple):
    """What one build needs: a compiler's sandboxes, and a text that names all that its result depends on besides the source."""

    compiler: Compiler
    kind: Kind
    toolchain: str


class Builds:
    """The build service. ``get`` is for the hot path; ``plan``, ``follow`` and ``forget`` are told by ``Functions``."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        index: Index,
        clock: Clock,
        workshop: Workshop,
        compilers: Sequence[Compiler],
        engine: Engine,
        *,
        modules: Mapping[str, Check] | None = None,
        parallel: int = 2,
        warm: bool = True,
    ) -> None:
        """modules: "languages" whose sources are modules already, in base64, and how those are checked.

        parallel: builds that run at the same time. warm: keep a compiler of each language ready before anybody asks.
        """
        self._store = store
        self._blobs = blobs
        self._index = index
        self._clock = clock
        self._workshop = workshop
        self._compilers = {language: compiler for compiler in compilers for language in compiler.languages}
        self._engine = engine
        self._modules = modules or {}
        self._builds: dict[str, Build] = {}
        """Of every current version, without the error's text, which may be long."""
        self._turns = Turns(parallel, parallel)
        self._warm = warm
        self._waiting: set[asyncio.Task[None]] = set()

    # -- what dialects ask ---------------------------------------------------------------------------------------------

    def get(self, version_id: str) -> Build | None:
        """The build of a function's current version, from memory and without its error's text."""
        return self._builds.get(version_id)

    async def error(self, version_id: str) -> str | None:
        """Why the build of a version failed; None unless it did. Raises Unavailable."""
        build = self._builds.get(version_id)
        if build is None or build.status is not BuildStatus.FAILED:
            return None
        stored = await self._store.get(Build, version_id)
        return stored.error if stored is not None else None

    def languages(self) -> list[str]:
        """Languages that can be compiled here now, in the order of their compilers."""
        if not self._engine.installed_version():
            return []
        return [language for language, compiler in self._compilers.items() if language in compiler.installed()]

    async def executable(self, version_id: str) -> bytes:
        """A READY version's module as this machine runs it, made anew when the engine has changed since.

        Raises NotFound when the version has no artifact, Unavailable.
        """
        build = self._builds.get(version_id) or await self._store.get(Build, version_id)
        if build is None or build.artifact is None:
            raise NotFound("the version is not built")
        kept = await self._blobs.get(self._executable_name(build.artifact))
        if kept is not None:
            return kept
        module = await self._blobs.get(build.artifact)
        if module is None:
            raise Unavailable("the artifact is gone")
        prepared = self._read(await self._prepare(module, LIMIT_S))
        if isinstance(prepared, Verdict) or prepared.error:
            raise Unavailable("the artifact could not be prepared for this machine")
        await self._blobs.put(prepared.executable, self._executable_name(build.artifact))
        return prepared.executable

    # -- what Functions tells ------------------------------------------------------------------------------------------

    def needs(self, version: Version) -> bool:
        """Whether a version runs an artifact instead of its source."""
        return version.runtime == self._engine.runtime_id

    def plan(self, function: Function, version: Version) -> list[Build]:
        """What is to be stored together with a new version."""
        if not self.needs(version):
            return []
        build = Build(
            id=version.id,
            function_id=function.id,
            language=version.settings.get("language", ""),
            status=BuildStatus.PENDING,
            created_at=version.created_at,
        )
        return [build]

    def follow(self, function_id: str) -> None:
        """A function was made, changed or removed: queue the build of a version that is new."""
        target = self._index.get_function(function_id)
        if target is not None and target.id not in self._builds:
            for build in self.plan(target.function, target.version):
                self._add(build)

    def forget(self, version_id: str) -> None:
        """No new call may use this version; a build of it that runs is for nothing, and its result will be dropped."""
        self._builds.pop(version_id, None)

    # -- starting and stopping -----------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Learn from the store how things are, and queue what an earlier server has not finished, in its order."""
        stored = {build.id: build for build in await self._store.find(Build, without=("error",))}
        wanted = [build for target in self._index for build in self.plan(target.function, target.version)]
        for build in sorted(wanted, key=lambda build: build.created_at):
            known = stored.get(build.id, build)
            if known.status in FINAL:
                self._builds[known.id] = known
            else:
                self._add(build)

    async def run(self) -> None:
        """Keep compilers warm, and remove artifacts that nobody needs any more; until cancelled."""
        for language in self.languages() if self._warm else ():
            self._workshop.keep(self._tools(language).kind)
            self._workshop.keep(self._tool_kind())
        while True:
            try:
                await self.sweep()
            except Error as error:
                log.warning("artifacts could not be swept", reason=error.message)
            await self._clock.sleep(SWEEP_EVERY_S)

    async def sweep(self) -> int:
        """Remove artifacts that no current version needs and that were not used for days; the count."""
        artifacts = [build.artifact for build in self._builds.values() if build.artifact is not None]
        return await self._blobs.sweep({*artifacts, *map(self._executable_name, artifacts)}, KEEP_UNUSED_S)

    async def close(self) -> None:
        """Drop what runs; the next start queues it again. Idempotent."""
        await self._turns.close(0)
        for task in self._waiting:
            task.cancel()
        await asyncio.gather(*self._waiting, return_exceptions=True)

    def counts(self) -> Mapping[str, int]:
        """Unfinished builds by status."""
        statuses = [build.status for build in self._builds.values()]
        return {status: statuses.count(status) for status in (BuildStatus.PENDING, BuildStatus.COMPILING)}

    # -- one build -----------------------------------------------------------------------------------------------------

    def _add(self, build: Build) -> None:
        self._builds[build.id] = build
        self._turns.add("", partial(self._run, build))

    def _after(self, build: Build) -> float:
        """The time, and later by a millisecond at least than the change before: whoever looks can tell them apart."""
        return max(round(self._clock.now(), 3), round(build.changed_at + 0.001, 3))

    def _wanted(self, build: Build) -> Target | None:
        """The target that a build was made for; None when its function is gone or has another version by now."""
        target = self._index.get_function(build.function_id)
        return target if target is not None and target.id == build.id else None

    async def _run(self, build: Build) -> None:
        if self._wanted(build) is None:
            return
        try:
            if not await self._is_final(build):
                running = msgspec.structs.replace(build, status=BuildStatus.COMPILING, started_at=self._after(build))
                self._builds[build.id] = running
                await self._finish(running, await self._make(running))
        except Error as error:
            log.warning("a build must wait", build=build.id, reason=error.message)
            self._again(build)
        except Exception as error:
            log.error("a build met a fault of ours", build=build.id, error=repr(error), exc_info=True)
            self._again(build)

    async def _is_final(self, build: Build) -> bool:
        """Whether this is a version of former days that is current again, and was built then."""
        stored = await self._store.get(Build, build.id)
        if stored is None or stored.status not in FINAL:
            return False
        self._show(stored)
        return True

    def _show(self, build: Build) -> None:
        """Let everybody see how a build ended, unless its version is not current any more."""
        if self._wanted(build) is not None:
            self._builds[build.id] = msgspec.structs.replace(build, error=None)

    def _again(self, build: Build) -> None:
        """Queue a build once more, later."""
        if self._wanted(build) is not None:
            self._builds[build.id] = build
            task = asyncio.get_running_loop().create_task(self._add_later(build))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)

    async def _add_later(self, build: Build) -> None:
        await self._clock.sleep(RETRY_S)
        if self._wanted(build) is not None:
            self._add(build)

    async def _finish(self, build: Build, verdict: Verdict | None) -> None:
        """Keep the verdict, and let it be seen, unless the version is not current any more."""
        if verdict is None or self._wanted(build) is None:
            return
        status = BuildStatus.READY if verdict.artifact is not None else BuildStatus.FAILED
        ended = self._after(build)
        done = msgspec.structs.replace(build, status=status, artifact=verdict.artifact, error=verdict.error, finished_at=ended)
        try:
            await self._store.replace(done)
        except NotFound:
            return  # deleted meanwhile
        self._show(done)

    async def _make(self, build: Build) -> Verdict | None:
        """Compile, or remember. None when the version is gone. Raises Error for what is no fault of the source's."""
        version = await self._store.get(Version, build.id)
        if version is None:
            return None
        check = self._modules.get(build.language)
        if check is None:
            tools = self._tools(build.language)
            key = self._key(build.language, version, tools.toolchain)
            judge = partial(self._compile, tools, build.language, version)
        else:
            key = self._key(build.language, version, "")
            judge = partial(self._accept, base64.b64decode(version.source), check, version, LIMIT_S)
        verdict = await self._recall(key)
        if verdict is None:
            verdict = await judge()
            if verdict.lasting:
                await self._blobs.put(msgspec.json.encode(verdict), key)
        return verdict

    def _key(self, language: str, version: Version, toolchain: str) -> str:
        engine = self._engine.installed_version()
        parts = (language, toolchain, engine, str(version.memory_mb), version.source)  # only the last may hold a NUL
        return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()

    async def _recall(self, key: str) -> Verdict | None:
        """What came of the same source before."""
        kept = await self._blobs.get(key)
        if kept is None:
            return None
        verdict = msgspec.json.decode(kept, type=Verdict)
        whole = verdict.artifact is None or await self._blobs.get(self._executable_name(verdict.artifact)) is not None
        return verdict if whole else None

    async def _compile(self, tools: _Tools, language: str, version: Version) -> Verdict:
        """The source through the compiler, and the module through the checks and the engine's tool."""
        reply = await self._workshop.call(tools.kind, tools.compiler.request(language, version.source), LIMIT_S)
        compiled = _outcome(reply) or tools.compiler.result(reply) or _crashed("its answer makes no sense")
        if isinstance(compiled, Verdict):
            return compiled
        if compiled.error:
            return Verdict(error=_cut(compiled.error), lasting=compiled.lasting)
        return await self._accept(compiled.module, tools.compiler.check, version, max(1.0, LIMIT_S - reply.duration_s))

    async def _accept(self, module: bytes, check: Check, version: Version, timeout_s: float) -> Verdict:
        """A module through the engine's tool and the check."""
        prepared = self._read(await self._prepare(module, timeout_s))
        if isinstance(prepared, Verdict):
            return prepared
        fault = prepared.error or check(prepared.facts, version.memory_mb)
        if fault:
            return Verdict(error=_cut(fault))
        artifact = await self._blobs.put(module)
        await self._blobs.put(prepared.executable, self._executable_name(artifact))
        return Verdict(artifact=artifact)

    async def _prepare(self, module: bytes, timeout_s: float) -> Reply:
        return await self._workshop.call(self._tool_kind(), module, timeout_s)

    def _read(self, reply: Reply) -> Prepared | Verdict:
        return _outcome(reply) or self._engine.prepared(reply) or _crashed("the module could not be prepared")

    # -- tools ---------------------------------------------------------------------------------------------------------

    def _tools(self, language: str) -> _Tools:
        """Raises Unsupported when the language's compiler is not installed."""
        compiler = self._compilers.get(language)
        toolchain = compiler.installed().get(language) if compiler is not None else None
        if compiler is None or toolchain is None:
            raise Unavailable(f"no compiler for '{language}' is installed")
        return _Tools(compiler, compiler_kind(compiler, language), toolchain)

    def _tool_kind(self) -> Kind:
        limits = Limits(memory_mb=TOOL_MEMORY_MB, background=True, result_bytes=EXECUTABLE_BYTES)
        return Kind(self._engine.launch_tool(), limits)

    def _executable_name(self, artifact: str) -> str:
        return hashlib.sha256(f"{artifact} {self._engine.installed_version()}".encode()).hexdigest()


def compiler_kind(compiler: Compiler, language: str) -> Kind:
    """The sandboxes of a compiler. Raises Unsupported when it is not installed."""
    limits = Limits(memory_mb=compiler.memory_mb, cpus=2.0, background=True, result_bytes=MODULE_BYTES)
    return Kind(compiler.launch(language), limits)


def _outcome(reply: Reply) -> Verdict | None:
    """The verdict on a build whose sandbox did not answer; None when it did."""
    match reply.outcome:
        case Outcome.OK:
            return None
        case Outcome.TIMEOUT:
            return Verdict(error=TIMED_OUT, lasting=False)
        case Outcome.OUT_OF_MEMORY:
            return Verdict(error=NO_MEMORY, lasting=False)
        case Outcome.NOT_RUN:
            raise Unavailable("the compiler ends before it begins")
    return _crashed(f"exit code {reply.exit_code}" if reply.exit_code is not None else reply.message or reply.outcome)


def _crashed(reason: str) -> Verdict:
    return Verdict(error=f"Compiler crashed: {reason}", lasting=False)


def _cut(text: str) -> str:
    return text.encode("utf-8", "replace")[:ERROR_BYTES].decode("utf-8", "ignore")
