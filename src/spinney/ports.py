"""Every outward seam on one page: Store, Driver, Sandbox, Runtime, Clock.

``app.py`` is the only module that knows who stands behind these. The suites in ``spinney.testing`` say what each must do;
an implementation that passes its suite may be used by everything in ``core``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from spinney.model import Call, Execution, Function, Outcome, Reply, ResourceUsage, Rights, Version

Noun = TypeVar("Noun", bound=msgspec.Struct)


class Mount(msgspec.Struct, frozen=True):
    """A host file or directory shown read-only at ``target`` inside a sandbox."""

    source: str
    target: str


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one sandbox may use. ``memory_mb`` holds for all its processes together and includes the runtime itself."""

    memory_mb: int = 192
    cpus: float = 1.0
    background: bool = False
    """Work that must not be noticed: it gets a small share of the processors, and where there are several not all of them."""
    pids: int = 256
    tmp_mb: int = 256
    files: int = 4096
    log_bytes: int = 262144
    result_bytes: int = 6291456


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """How a runtime's guest is started. Versions with equal ``key`` can be served by the same stem sandboxes."""

    key: str
    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()
    idle_mb: int = 48
    cwd: str = "/var/task"
    pipes_are_logs: bool = True
    """Whether what the guest writes to standard output and error belongs to a call's log."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What turns a stem into one version's sandbox: files for /var/task (plain names) and the payload of the ``load`` frame.

    ``limits`` take the place of the stem's.
    """

    files: Mapping[str, bytes]
    payload: bytes
    limits: Limits


class SandboxSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a driver needs to make a sandbox. ``id`` is unique on the machine and safe in paths (``[a-z0-9-]+``)."""

    id: str
    launch: Launch
    limits: Limits
    rights: Rights = Rights()
    warm: bool = False
    """Nobody waits for it yet: let the guest take the ways of a first call before it counts as ready."""


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A process to run inside a live sandbox."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = {}
    cwd: str = "/var/task"
    pty: bool = False


class Problem(msgspec.Struct, frozen=True):
    """A fault in source text, found without running it. ``line`` counts from 1; 0 when unknown."""

    message: str
    line: int = 0


class Features(msgspec.Struct, frozen=True, kw_only=True):
    """What a driver can do on this machine, found out once at start-up. ``tier`` is what executions record."""

    tier: str
    network: bool = False
    checkpoint: bool = False
    pause: bool = False
    pty: bool = False
    limits_memory: bool = True
    limits_cpu: bool = True
    limits_pids: bool = True
    notes: tuple[str, ...] = ()


class Clock(Protocol):
    """Time, injected, so that tests need not wait for it."""

    def now(self) -> float:
        """Seconds since the epoch."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    async def sleep(self, seconds: float) -> None: ...


class Process(Protocol):
    """A process inside a sandbox."""

    async def write(self, data: bytes) -> None:
        """Feed standard input; ``b""`` closes it."""

    async def read(self) -> tuple[str, bytes]:
        """The next output: (``"stdout"`` or ``"stderr"``, bytes); (``""``, ``b""``) at the end of both."""

    async def wait(self) -> int:
        """The exit code; 128 + signal when a signal ended it."""

    def resize(self, columns: int, rows: int) -> None:
        """Set the size of the pty, when there is one."""

    def kill(self) -> None: ...


class Answer(NamedTuple):
    """What a service says to a guest: a value that JSON can hold, and bytes beside it."""

    value: Any
    data: bytes = b""


class Services(Protocol):
    """What the code of a call may ask of the host while it runs (docs/guest-channel.md)."""

    def answer(self, call: Call, service: str, method: str, args: bytes, data: bytes) -> Answer | Awaitable[Answer]:
        """Answer one request, at once or later. ``args`` is the JSON text of an object, ``data`` what came beside it.

        Raises Error, at once or later; its message is for the guest. Later work is cancelled when the call ends.
        """


class Sandbox(Protocol):
    """A live isolated environment. Owned by exactly one caller at a time."""

    id: str

    def load(self, load: Load) -> None:
        """Give a stem its code, once. The guest works on it when the first call arrives, so its time counts as that call's.

        Raises StartFailed when files or limits cannot be put in place.
        """

    @property
    def may_send_ahead(self) -> bool:
        """Whether ``call`` may be called again before the calls that are running have ended."""

    async def call(self, call: Call, deadline: float, services: Services | None = None) -> Reply:
        """One invocation over the guest channel. ``services`` answers what its code asks of the host; without it none may ask.

        ``deadline`` is on the loop's clock (``loop.time()``). Ends at most 1 s after it, and when it is over every process of the
        sandbox is dead. Failures of the guest are Replies, not exceptions; after a reply that is not ``reusable`` only
        ``close`` may be called.

        A call that is sent ahead begins when the one before it has ended, and has ``call.timeout_s`` from then. When that does
        not happen soon it ends as NOT_RUN, ``reusable``: it was taken back unread, for another sandbox.
        """

    async def exec(self, command: Command) -> Process:
        """Start a process beside the guest. Raises Unsupported without the ability, SandboxDied after its end."""

    async def poll(self) -> int | None:
        """None while alive, then the exit code (128 + signal)."""

    def usage(self) -> ResourceUsage: ...

    def state(self) -> dict[str, Any]:
        """JSON-able facts from which ``Driver.attach`` finds the sandbox again."""

    async def close(self) -> None:
        """Kill everything inside and remove every trace outside. Idempotent; works half-started."""


class Driver(Protocol):
    """Makes sandboxes. Retry, limits and logging are wrappers that are Drivers themselves."""

    name: str
    features: Features

    async def create(self, spec: SandboxSpec) -> Sandbox:
        """A booted sandbox whose guest has said it is ready. Raises StartFailed. Leaves nothing behind when it raises."""

    async def attach(self, state: Mapping[str, Any]) -> Sandbox | None:
        """The sandbox that ``state`` describes, when it still lives; None otherwise."""

    async def sweep(self, keep: Collection[str]) -> int:
        """Remove every sandbox of this server's that is not in ``keep`` and its traces; the count. May be repeated."""

    def memory_bytes(self) -> int:
        """Memory that all sandboxes of this driver use together, now."""

    async def close(self) -> None:
        """Close every sandbox and give back what the driver itself holds. Idempotent."""


class Sample(NamedTuple):
    """A small function in a language: handler and source."""

    handler: str
    source: str


class Runtime(Protocol):
    """A language. Pure but for reading which binaries are installed; runs nothing on the host."""

    name: str
    ids: tuple[str, ...]
    """Every runtime id that versions may name, as dialects spell them."""
    sample: Sample
    """A function that greets: it answers ``{"hello": <name of the event>}``."""

    def installed(self) -> Mapping[str, str]:
        """For each id that can run here, the version that would run (``{"nodejs20": "20.20.2"}``)."""

    def check(self, source: str) -> list[Problem]:
        """Faults that can be seen without running anything; [] when none are looked for."""

    def launch(self, runtime_id: str, rights: Rights) -> Launch:
        """How to start a stem for this id and these rights. Raises Unsupported when nothing of that language is installed."""

    def load(self, function: Function, version: Version, limits: Limits) -> Load:
        """What to hand to a stem so that it becomes this version of this function."""

    def explain(self, exit_code: int, logs: Sequence[str]) -> Outcome:
        """EXITED, or OUT_OF_MEMORY when the language's own way of dying says so. ``logs`` are the last lines written."""


class Compiled(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a compilation: a WebAssembly module, or an error for the author of the source.

    ``lasting``: the same source will give the same again, so it may be remembered.
    """

    module: bytes = b""
    error: str = ""
    lasting: bool = True


class ModuleFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a WebAssembly module needs and offers: ``imports`` are (module, name, type), ``exports`` map a name to its type.

    A function's type is written ``(i32,i32)->(i32)``, a memory's ``memory(2)`` with its initial pages, others' by their kind.
    """

    imports: tuple[tuple[str, str, str], ...] = ()
    exports: Mapping[str, str] = {}


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A module made ready to run: native code for this machine, and what was seen on the way. ``error``: it is not valid."""

    facts: ModuleFacts = ModuleFacts()
    executable: bytes = b""
    error: str = ""


class Compiler(Protocol):
    """Languages that are compiled to WebAssembly, in sandboxes that serve many builds and carry nothing from one to the next.

    Pure but for reading what is installed; runs nothing on the host.
    """

    name: str
    languages: tuple[str, ...]
    memory_mb: int
    """What one compilation may use, the compiler itself included."""
    sample: str
    """A small source that compiles."""

    def installed(self) -> Mapping[str, str]:
        """For each language that can be compiled here, everything besides the source that its modules depend on, as text."""

    def launch(self, language: str) -> Launch:
        """How to start a sandbox of the compiler. Raises Unsupported when it is not installed."""

    def request(self, language: str, source: str) -> bytes:
        """The body of the call that compiles a source."""

    def result(self, reply: Reply) -> Compiled | None:
        """What an answer (OK) of the compiler means; None when it makes no sense."""

    def check(self, facts: ModuleFacts, memory_mb: int) -> str | None:
        """Why a module cannot be run as a function with so much memory, for its author; None when it can."""


class Engine(Protocol):
    """What runs WebAssembly, as far as builds need it: it makes modules ready to run, in a sandbox."""

    runtime_id: str
    """Versions that name this runtime need a build."""

    def installed_version(self) -> str:
        """Everything besides the module that an executable depends on, as text: engine, options, processor; "" without any."""

    def launch_tool(self) -> Launch:
        """How to start the sandbox that prepares modules: the body of a call is a module. Raises Unsupported."""

    def prepared(self, reply: Reply) -> Prepared | None:
        """What an answer (OK) of the tool means; None when it makes no sense."""


class Blobs(Protocol):
    """Bytes kept by name, each written once: artifacts of builds and what is derived from them."""

    async def put(self, data: bytes, name: str = "") -> str:
        """Keep ``data`` and return its name, by default the SHA-256 of it in hex. Durable when it returns. Raises Unavailable.

        A name of the caller's own is a SHA-256 too, of what the data were derived from.
        """

    async def get(self, name: str) -> bytes | None:
        """None when there is no such blob. Raises Unavailable."""

    async def sweep(self, keep: Collection[str], idle_s: float) -> int:
        """Remove those not in ``keep`` that were neither put nor read for ``idle_s`` seconds; the count. May be repeated."""


class Store(Protocol):
    """Durable nouns: few generic methods over (type, id), plus named reports for executions. A write that returns is durable."""

    entries: EntryStore

    async def open(self) -> None:
        """Connect and bring the schema up to date. Raises Unavailable."""

    async def insert(self, *nouns: msgspec.Struct) -> None:
        """All or none. Raises Conflict when an id or a unique name is taken."""

    async def get(self, kind: type[Noun], id: str) -> Noun | None: ...

    async def find(
        self,
        kind: type[Noun],
        *,
        order: str = "",
        limit: int | None = None,
        offset: int = 0,
        without: Collection[str] = (),
        **equals: Any,
    ) -> list[Noun]:
        """Those whose fields equal ``equals``; a list stands for any of its values (at most 500).

        ``order`` is a field name, ``-`` in front for descending. Fields in ``without`` are not read and come back empty.
        """

    async def count(self, kind: type[msgspec.Struct], **equals: Any) -> int:
        """How many ``find`` would find."""

    async def replace(self, *nouns: msgspec.Struct, insert: Sequence[msgspec.Struct] = ()) -> None:
        """Overwrite rows by id, and insert others, in one transaction.

        Raises NotFound when a row to replace is gone, Conflict as insert.
        """

    async def delete(self, kind: type[msgspec.Struct], id: str) -> bool:
        """Also removes what belongs to it (a function's versions and executions, a version's build). False when it is gone."""

    def write_executions(self, batch: Sequence[bytes]) -> None:
        """Insert executions from their JSON texts (``msgspec.json.encode(execution)``). Blocking: for the writer thread.

        Idempotent: one that is final stays as it is, a queued or running one is overwritten.
        Raises Unavailable, and then wrote none.
        """

    async def prune_executions(
        self, function_id: str, keep: int | None = None, older_than: float | None = None, version_id: str | None = None
    ) -> int:
        """Drop finished executions of a function: all but the newest ``keep``, those before ``older_than``, and a version's."""

    async def find_executions(
        self,
        *function_ids: str,
        status: Sequence[str] = (),
        trigger: str | None = None,
        limit: int = 50,
        offset: int = 0,
        heads: bool = False,
        inputs: bool = False,
    ) -> list[Execution]:
        """Those of the functions together, newest first; ``heads`` are without output, headers and logs, and input unless asked
        for by ``inputs``.
        """

    async def sweep(self) -> int:
        """Drop executions whose function is gone (written after its end, or left by a crash); the count. May be repeated."""

    async def note_used(self, used: Mapping[str, float]) -> None:
        """Set ``last_used_at`` of tokens by id, and nothing else of them."""

    async def generation(self) -> int:
        """Counts up whenever tokens or accounts are changed by anybody, also by another process."""

    async def close(self) -> None: ...


class WebRequest(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP request to be made for a function. ``query`` is added to the URL's own; ``redirects`` are followed at most;
    a response's body may have ``limit_bytes``.
    """

    method: str
    url: str
    headers: Sequence[tuple[str, str]] = ()
    query: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    timeout_s: float = 30.0
    redirects: int = 10
    limit_bytes: int = 10 << 20


class WebResponse(msgspec.Struct, frozen=True, kw_only=True):
    """What came back, from ``url`` in the end."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes
    url: str


class Web(Protocol):
    """Other people's servers, within the policy of where functions may go."""

    async def fetch(self, request: WebRequest) -> WebResponse:
        """One response, of any status. Raises Invalid, Denied, Timeout or Unavailable with a message for the function's user."""

    async def close(self) -> None: ...


class Scope(NamedTuple):
    """Whose entries: a function's own (``kv``), its variables (``environment``), or all of an account's (``account_kv``)."""

    kind: str
    owner_id: str


class Change(NamedTuple):
    """A change of one entry: ``decide`` gets the value that it has, or None, and returns the one that it shall have, or None.

    ``decide`` runs inside the store's transaction: it must be quick and touch nothing else.
    """

    scope: Scope
    key: bytes
    decide: Callable[[bytes | None], bytes | None]


class EntryStore(Protocol):
    """Durable maps from bytes to bytes. They go with their owners: nothing is ever written for one that is gone."""

    async def get(self, scope: Scope, key: bytes) -> bytes | None: ...

    async def find(self, scope: Scope, *, after: bytes = b"", limit_bytes: int | None = None) -> list[tuple[bytes, bytes]]:
        """Entries whose keys are greater than ``after``, by key; as many as ``limit_bytes`` hold, but one at least."""

    async def keys(self, scope: Scope, *, after: bytes = b"", limit: int) -> list[bytes]:
        """Keys greater than ``after``, in order."""

    async def measure(self, scope: Scope) -> tuple[int, int]:
        """How many entries a scope has, and the bytes of their keys and values."""

    async def change(self, changes: Sequence[Change]) -> list[bool]:
        """Make changes one after the other, in one transaction; for each whether its owner was there. Raises Unavailable."""

    async def replace(self, scope: Scope, entries: Mapping[bytes, bytes]) -> None:
        """Put these in the place of all entries of a scope, in one transaction. Raises NotFound when its owner is gone."""


class Journal(Protocol):
    """Where records are safe from a crash of the server before they reach the store."""

    async def open(self) -> int:
        """Hand to the store what a crash left behind, start the writer; the number of records recovered."""

    def append(self, record: bytes) -> None:
        """One write; when it returns, a killed server does not lose the record.

        Raises Unavailable (a full disk), and then nothing is kept.
        """

    def full(self) -> bool:
        """True while the writer is so far behind that callers must wait for ``room``."""

    async def room(self) -> None: ...

    async def flush(self) -> None:
        """Return when everything appended before is in the store. Raises Unavailable when the store refuses."""

    async def close(self) -> None:
        """Flush, stop the writer, remove what is no longer needed."""
