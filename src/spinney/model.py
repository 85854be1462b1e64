"""The nouns, as data. No behaviour beyond what a value can say about itself; docs/GLOSSARY.md defines each word.

Times are seconds since the epoch (float, UTC), sizes carry their unit in the name.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

DEFAULT_ACCOUNT = "default"


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Who owns functions, tokens and usage."""

    id: str
    name: str
    created_at: float


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A bearer credential. Only ``digest`` (SHA-256 of the secret, hex) is kept, never the secret."""

    id: str
    account_id: str
    name: str
    digest: str
    created_at: float
    scopes: tuple[str, ...] = ()
    expires_at: float | None = None
    revoked_at: float | None = None
    last_used_at: float | None = None


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A login of the one who has the admin key. ``id`` is a digest of the secret that the browser has, which is not kept."""

    id: str
    created_at: float
    expires_at: float


class Function(msgspec.Struct, frozen=True, kw_only=True):
    """A name in one account and dialect that points to its current Version. ``settings`` holds what only its dialect reads.

    ``last_number`` is that of the newest version it ever had: numbers do not come back.
    """

    id: str
    account_id: str
    dialect: str
    name: str
    version_id: str
    created_at: float
    updated_at: float
    description: str = ""
    settings: Mapping[str, Any] = {}
    last_number: int = 1


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """Immutable code and configuration of a Function; ``number`` counts up from 1. ``id`` names function and number."""

    id: str
    function_id: str
    number: int
    runtime: str
    handler: str
    source: str
    created_at: float
    memory_mb: int = 128
    timeout_s: float = 30.0
    environment: Mapping[str, str] = {}
    settings: Mapping[str, Any] = {}


class BuildStatus(enum.StrEnum):
    """Where a Build is. The last two are final."""

    PENDING = "pending"
    COMPILING = "compiling"
    READY = "ready"
    FAILED = "failed"


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """The act that gives a Version in a compiled language its artifact; ``id`` is the version's.

    ``artifact`` names the module among the blobs when it is READY, ``error`` tells the author why it FAILED.
    """

    id: str
    function_id: str
    language: str
    status: BuildStatus
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    artifact: str | None = None
    error: str | None = None

    @property
    def changed_at(self) -> float:
        """When ``status`` became what it is."""
        return self.finished_at or self.started_at or self.created_at


class Rights(msgspec.Struct, frozen=True):
    """What the code of a version may do besides computing; enforced by the sandbox, and by a runtime with permissions of its own.

    net: outgoing connections. env: the whole environment. read, write: files of its own sandbox (its task directory and /tmp).
    """

    net: bool = False
    env: bool = True
    read: bool = True
    write: bool = True

    @property
    def key(self) -> str:
        """Those that differ from the ordinary, as a suffix for names (``+net-write``); "" when none does."""
        signs = (("+net", self.net), ("-env", not self.env), ("-read", not self.read), ("-write", not self.write))
        return "".join(sign for sign, differs in signs if differs)


class Status(enum.StrEnum):
    """Where an Execution is. The last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCESS = "success"
    ERROR = "error"
    TIMEOUT = "timeout"


class Outcome(enum.StrEnum):
    """How a call into a sandbox ended. Everything but OK leaves ``Reply.message`` set."""

    OK = "ok"
    ERROR = "error"  # the handler threw, or something it left running did
    LOAD_ERROR = "load_error"  # the code does not compile or throws while loading
    NO_HANDLER = "no_handler"  # no such export, or not a function
    BAD_RESULT = "bad_result"  # the value has no wire form; message says why
    RESULT_TOO_LARGE = "result_too_large"
    TIMEOUT = "timeout"
    EXITED = "exited"  # the process ended before it answered; exit_code says how
    OUT_OF_MEMORY = "out_of_memory"
    NOT_RUN = "not_run"  # the sandbox had ended before the call was sent: another one may take it
    NOT_STARTED = "not_started"  # no sandbox could be made; message says why
    BUSY = "busy"  # no sandbox became free in time, or the queue was full
    UNAVAILABLE = "unavailable"  # the runtime is not on this server


class LogLine(NamedTuple):
    """One entry of a call's log. ``level`` is ``debug``, ``info``, ``warn`` or ``error``."""

    level: str
    text: str


class Call(msgspec.Struct, frozen=True):
    """One invocation, as a sandbox gets it.

    ``meta`` is the JSON text of an object that the runtime's guest library understands (request fields of the dialect);
    ``body`` is passed on byte for byte. A guest that ends calls by itself when their time is over has ``grace_s`` more for it.
    """

    id: str
    body: bytes
    timeout_s: float
    meta: bytes = b""
    grace_s: float = 0.0

    @property
    def limit_s(self) -> float:
        """When its sandbox is ended, from the call's beginning."""
        return self.timeout_s + self.grace_s


class Reply(msgspec.Struct):
    """What came of a Call. ``body`` and ``meta`` are the guest's bytes: checked by whoever reads them, never trusted."""

    outcome: Outcome
    body: bytes = b""
    meta: bytes = b""
    message: str = ""
    exit_code: int | None = None
    logs: Sequence[LogLine] = ()
    log_times: Sequence[float] = ()
    """When each of ``logs`` came; empty when that is not known."""
    logs_truncated: bool = False
    duration_s: float = 0.0
    reusable: bool = False


class Execution(msgspec.Struct, kw_only=True):
    """One call or run, as it is kept. ``output`` and ``input`` hold what the dialect keeps of them, as text.

    Histories go by ``started_at``. A dialect that tells when a call was asked for from when its code began has that in
    ``begun_at``.
    """

    id: str
    function_id: str
    version_id: str
    account_id: str
    trigger: str
    status: Status
    started_at: float
    status_code: int | None = None
    finished_at: float | None = None
    duration_ms: int = 0
    logs: str = ""
    error: str | None = None
    input: str | None = None
    output: str | None = None
    headers: str | None = None
    tier: str = ""
    begun_at: float | None = None


class AIRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request that an execution made of a language model. ``request`` and ``response`` are JSON texts, without secrets.

    ``endpoint`` and ``request`` are empty when nothing could be sent.
    """

    id: str
    function_id: str
    execution_id: str
    provider: str
    model: str
    endpoint: str
    request: str
    status: Status
    duration_ms: int
    created_at: float
    response: str | None = None
    error: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class EmailRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One email that an execution sent, or tried to. ``request`` and ``response`` as of an AIRequest."""

    id: str
    function_id: str
    execution_id: str
    sender: str
    recipients: tuple[str, ...]
    subject: str
    has_text: bool
    has_html: bool
    request: str
    status: Status
    duration_ms: int
    created_at: float
    response: str | None = None
    error: str | None = None
    email_id: str | None = None


class ResourceUsage(NamedTuple):
    """What a sandbox has used so far, from its cgroup: CPU seconds, bytes of memory now and at most, bytes of network."""

    cpu_s: float = 0.0
    memory_bytes: int = 0
    memory_peak_bytes: int = 0
    network_rx_bytes: int = 0
    network_tx_bytes: int = 0
