"""The Journal in files: one write per record, and a thread that brings records to the store in batches.

The event loop's thread has no time to spare, so ``append`` takes no lock and does not wake the writer while it is at work:
the writer looks for itself, every ``pause_s``, until it finds nothing, and only then sleeps until it is woken. Counters are each
written by one thread only.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog

from spinney.errors import Error, Unavailable
from spinney.model import Execution
from spinney.stores.segments import Segments, read_lines, refusal

log = structlog.get_logger("spinney.journal")

RETRY_FIRST_S = 0.05
RETRY_MOST_S = 1.0
ID_AT = len(b'{"id":"')
"""Where the id of an execution begins in its record: it is the first field."""

Write = Callable[[Sequence[bytes]], None]


class JournalLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds: one segment file, one batch for the store, what may wait in memory, and how long the writer gathers a batch."""

    segment_bytes: int = 8 << 20
    batch_records: int = 2000
    batch_bytes: int = 4 << 20
    backlog_records: int = 50_000
    backlog_bytes: int = 64 << 20
    pause_s: float = 0.02


class FileJournal:
    """Implements ports.Journal. ``append``, ``full`` and the coroutines belong to the event loop that called ``open``."""

    def __init__(self, directory: Path, write: Write, limits: JournalLimits | None = None) -> None:
        """``write`` commits records to the store: blocking, idempotent, all or none. Nothing is opened yet."""
        self._write = write
        self._limits = limits or JournalLimits()
        self._segments = Segments(directory, self._limits.segment_bytes)
        self._queue: deque[bytes] = deque()
        self._appended_bytes = 0  # written by the loop's thread
        self._committed = self._committed_bytes = 0  # these and the next by the writer's
        self._batch: list[bytes] = []
        self._refusals = 0
        self._reason = ""
        self._idle = False
        self._stopping = False
        self._wake = threading.Event()  # there is something to do
        self._hurry = threading.Event()  # do not wait for more
        self._thread: threading.Thread | None = None
        self._changed = asyncio.Event()  # set and replaced when the writer got on, or was refused
        self._waiting = 0

    async def open(self) -> int:
        """Hand to the store what a crash left behind, start the writer; the number of records recovered. Raises Unavailable."""
        self._loop = asyncio.get_running_loop()
        recovered = await asyncio.to_thread(self._recover)
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
        self._thread.start()
        return recovered

    def append(self, record: bytes) -> None:
        """Keep a record, a JSON text without line feeds. Raises Unavailable (a full disk), and then nothing is kept."""
        self._segments.append(record)
        self._appended_bytes += len(record)
        self._queue.append(record)
        if self._idle:
            self._idle = False
            self._wake.set()

    def full(self) -> bool:
        """True while the writer is so far behind that callers must wait for ``room``."""
        return (
            self._segments.appended - self._committed >= self._limits.backlog_records
            or self._appended_bytes - self._committed_bytes >= self._limits.backlog_bytes
        )

    async def room(self) -> None:
        """Return when the journal is not full. Raises Unavailable when it was closed meanwhile."""
        await self._until(lambda: not self.full())

    async def flush(self) -> None:
        """Return when everything appended before is in the store. Raises Unavailable when the store refuses; nothing is lost."""
        target, refusals = self._segments.appended, self._refusals
        await self._until(lambda: self._committed >= target or self._refusals != refusals)
        if self._committed < target:
            raise Unavailable(self._reason)

    async def close(self) -> None:
        """Flush, stop the writer, remove what is in the store. What the store refuses stays for the next ``open``. Idempotent."""
        if self._thread is None:
            return
        self._stopping = True
        self._hurry.set()
        self._wake.set()
        await asyncio.to_thread(self._thread.join)
        self._thread = None
        self._announce()
        left = self._segments.appended - self._committed
        if left:
            log.warning("records stay in the journal until the next start", records=left, reason=self._reason)
        self._segments.close(remove=not left)

    # -- waiting for the writer ----------------------------------------------------------------------------------------

    async def _until(self, done: Callable[[], bool]) -> None:
        if done():
            return
        self._waiting += 1  # before looking again, so that the writer announces whatever comes after the look
        self._hurry.set()
        self._wake.set()
        try:
            while not done():
                if self._thread is None:
                    raise Unavailable("the journal is closed")
                await self._changed.wait()
        finally:
            self._waiting -= 1

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _tell_loop(self, what: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(what)

    def _trim(self) -> None:
        if self._committed == self._segments.appended:
            self._segments.trim()

    # -- the writer's thread -------------------------------------------------------------------------------------------

    def _work(self) -> None:
        pause_s = self._limits.pause_s
        while True:
            self._hurry.wait(pause_s)
            self._hurry.clear()
            self._batch = self._batch or _take(self._queue, self._limits)
            if self._batch:
                if self._commit():
                    hurry = self._stopping or self._waiting or len(self._queue) >= self._limits.batch_records
                    pause_s = 0 if hurry else self._limits.pause_s
                elif self._stopping:
                    break
                else:
                    pause_s = min(max(pause_s * 2, RETRY_FIRST_S), RETRY_MOST_S)
            elif self._stopping:
                break
            else:
                self._rest()

    def _commit(self) -> bool:
        try:
            self._write(_latest(self._batch))
        except Exception as error:  # whatever it is, the records must not be lost
            self._refuse(error)
            return False
        self._committed += len(self._batch)
        self._committed_bytes += sum(map(len, self._batch))
        self._batch = []
        self._segments.release(self._committed)
        if self._reason:
            log.info("the store takes records again")
            self._reason = ""
        if self._waiting:
            self._tell_loop(self._announce)
        return True

    def _refuse(self, error: Exception) -> None:
        if not self._reason:
            log.warning("the store refuses records; they wait", reason=str(error), exc_info=not isinstance(error, Error))
        self._reason = error.message if isinstance(error, Error) else "the store is not available"
        self._refusals += 1
        self._tell_loop(self._announce)

    def _rest(self) -> None:
        """Sleep until there is something to do. Whoever appends after the look at the queue sees ``_idle`` and wakes."""
        self._idle = True
        if not self._queue and not self._stopping:
            self._tell_loop(self._trim)
            self._wake.wait()
        self._wake.clear()
        self._idle = False

    # -- after a crash -------------------------------------------------------------------------------------------------

    def _recover(self) -> int:
        try:
            self._segments.lock()
            paths = self._segments.leftover()
            recovered = sum(self._replay(path) for path in paths)
            for path in paths:
                path.unlink()
        except OSError as error:
            self._segments.close()
            raise refusal(error) from error
        except Exception:
            self._segments.close()
            raise
        if recovered:
            log.info("records recovered from the journal", records=recovered)
        return recovered

    def _replay(self, path: Path) -> int:
        lines = list(read_lines(path))
        records = [line for line in lines if _is_execution(line)]
        if len(records) < len(lines):
            log.warning("unreadable lines in the journal", segment=path.name, lines=len(lines) - len(records))
        queue = deque(records)
        while batch := _take(queue, self._limits):
            self._write(batch)
        return len(records)


def _take(queue: deque[bytes], limits: JournalLimits) -> list[bytes]:
    """The next batch from the queue's left."""
    size, batch = 0, list[bytes]()
    while queue and len(batch) < limits.batch_records and size < limits.batch_bytes:
        record = queue.popleft()
        size += len(record)
        batch.append(record)
    return batch


def _latest(batch: Sequence[bytes]) -> list[bytes]:
    """What was said last of each execution, in the order in which they came: most calls begin and end within one batch."""
    return list({record[: record.find(b'"', ID_AT)]: record for record in batch}.values())


def _is_execution(line: bytes) -> bool:
    """Whether a line is a whole record: a crash or a bad disk may have left a part of one, or anything."""
    try:
        msgspec.json.decode(line, type=Execution)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True
