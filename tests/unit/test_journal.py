"""The journal: nothing acknowledged is lost, by a killed server, a full disk or a store that refuses for a while."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from spinney.errors import Unavailable
from spinney.model import Execution, Status
from spinney.stores.journal import FileJournal, JournalLimits
from spinney.stores.sql import SqlStore
from spinney.testing.store_suite import make_execution, make_function, texts

pytestmark = pytest.mark.anyio

FUNCTION = make_function()
PATIENT = JournalLimits(pause_s=3600)
"""Nothing is written unless somebody asks for it."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Shelf:
    """A store that can be made to refuse, or to wait."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.batches: list[int] = []
        self.refusal: Exception | None = None
        self.refused = 0
        self.open = threading.Event()
        self.open.set()

    def write(self, batch: Sequence[bytes]) -> None:
        assert self.open.wait(60)
        if self.refusal:
            self.refused += 1
            raise self.refusal
        self.batches.append(len(batch))
        self.records.extend(batch)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


Make = Callable[..., FileJournal]


@pytest.fixture
async def make(tmp_path: Path, shelf: Shelf) -> AsyncIterator[Make]:
    """Journals in one directory, closed at the end."""
    made: list[FileJournal] = []

    def make_journal(limits: JournalLimits | None = None) -> FileJournal:
        made.append(FileJournal(tmp_path / "journal", shelf.write, limits))
        return made[-1]

    yield make_journal
    shelf.refusal = None
    shelf.open.set()
    for journal in made:
        await journal.close()


def records(count: int, **fields: object) -> list[bytes]:
    return texts(make_execution(FUNCTION, **fields) for _ in range(count))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  what is waited for happens in a thread
        await asyncio.sleep(0.001)


def segments(directory: Path) -> list[Path]:
    return sorted((directory / "journal").glob("*.journal"))


async def test_records_reach_the_store_in_order(make: Make, shelf: Shelf, tmp_path: Path) -> None:
    journal = make()
    assert await journal.open() == 0
    sent = records(5000)
    for record in sent:
        journal.append(record)
    await journal.flush()
    assert shelf.records == sent
    await journal.close()
    await journal.close()
    assert segments(tmp_path) == []


async def test_what_was_said_last_of_each_reaches_the_store(make: Make, shelf: Shelf) -> None:
    journal = make(PATIENT)
    await journal.open()
    begun = [make_execution(FUNCTION, status=Status.RUNNING) for _ in range(3)]
    ended = [msgspec.structs.replace(one, status=Status.SUCCESS, output="x") for one in begun[:2]]
    for record in texts([*begun, ended[1], ended[0]]):
        journal.append(record)
    await journal.flush()
    assert shelf.records == texts([*ended, begun[2]])


async def test_they_reach_it_unasked(make: Make, shelf: Shelf) -> None:
    journal = make()
    await journal.open()
    for record in (sent := records(3)):
        journal.append(record)
        await until(lambda record=record: record in shelf.records)
    assert shelf.records == sent


async def test_a_record_is_in_the_file_when_append_returns(make: Make, tmp_path: Path) -> None:
    journal = make(PATIENT)
    await journal.open()
    sent = records(3)
    for count, record in enumerate(sent, 1):
        journal.append(record)
        assert segments(tmp_path)[0].read_bytes().split(b"\n")[:-1] == sent[:count]


async def test_flush_waits_for_what_came_before_only(make: Make, shelf: Shelf) -> None:
    journal = make(PATIENT)
    await journal.open()
    await journal.flush()
    first, second = records(2)
    journal.append(first)
    flush = asyncio.create_task(journal.flush())
    await asyncio.wait([flush])
    journal.append(second)
    assert shelf.records == [first]
    await asyncio.gather(*(journal.flush() for _ in range(50)))
    assert shelf.records == [first, second]


async def test_batches_are_bounded(make: Make, shelf: Shelf) -> None:
    journal = make(JournalLimits(pause_s=3600, batch_records=10, batch_bytes=5000))
    await journal.open()
    for record in [*records(25), *records(9, output="x" * 1000)]:
        journal.append(record)
    await journal.flush()
    assert max(shelf.batches[:3]) == 10
    assert max(shelf.batches[3:]) <= 4
    assert sum(shelf.batches) == 34


async def test_segments_rotate_and_go(make: Make, shelf: Shelf, tmp_path: Path) -> None:
    journal = make(JournalLimits(segment_bytes=2000, batch_records=1))
    await journal.open()
    shelf.open.clear()
    sent = records(40)
    for record in sent:
        journal.append(record)
    assert len(segments(tmp_path)) > 5
    assert b"".join(path.read_bytes() for path in segments(tmp_path)).split() == sent
    shelf.open.set()
    await journal.flush()
    assert len(segments(tmp_path)) <= 1
    await until(lambda: segments(tmp_path)[0].stat().st_size == 0)
    journal.append(record := records(1)[0])
    assert segments(tmp_path)[0].read_bytes() == record + b"\n"


@pytest.mark.parametrize("limits", [JournalLimits(backlog_records=100), JournalLimits(backlog_bytes=100 * 250)])
async def test_a_full_journal_makes_callers_wait(make: Make, shelf: Shelf, limits: JournalLimits) -> None:
    journal = make(limits)
    await journal.open()
    assert not journal.full()
    await journal.room()
    shelf.open.clear()
    sent = records(150)
    for record in sent:
        journal.append(record)
    assert journal.full()
    waiting = [asyncio.create_task(journal.room()) for _ in range(3)]
    waiting[0].cancel()
    await asyncio.wait(waiting, timeout=0.05)
    assert not any(task.done() for task in waiting[1:])
    shelf.open.set()
    await asyncio.gather(*waiting[1:])
    assert not journal.full()
    await journal.flush()
    assert shelf.records == sent


@pytest.mark.parametrize("refusal", [Unavailable("the store is busy"), OSError("a bug")])
async def test_a_store_that_refuses_for_a_while(make: Make, shelf: Shelf, refusal: Exception) -> None:
    journal = make(JournalLimits(backlog_records=100))
    await journal.open()
    shelf.refusal = refusal
    sent = records(100)
    for record in sent[:50]:
        journal.append(record)
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"^the store is (busy|not available)$"):
            await journal.flush()
    for record in sent[50:]:
        journal.append(record)
    assert journal.full()
    refused = shelf.refused
    await until(lambda: shelf.refused >= refused + 2)
    shelf.refusal = None
    await journal.room()
    await journal.flush()
    assert shelf.records == sent


async def test_closing_while_the_store_refuses_keeps_everything(make: Make, shelf: Shelf, tmp_path: Path) -> None:
    journal = make()
    await journal.open()
    shelf.refusal = Unavailable("the store is busy")
    for record in (sent := records(10)):
        journal.append(record)
    await journal.close()
    assert segments(tmp_path)
    again = make()
    with pytest.raises(Unavailable, match="busy"):
        await again.open()
    assert segments(tmp_path)
    shelf.refusal = None
    assert await again.open() == 10
    assert shelf.records == sent
    assert segments(tmp_path) == []


async def test_waiters_learn_that_the_journal_closes(make: Make, shelf: Shelf) -> None:
    journal = make(JournalLimits(backlog_records=1))
    await journal.open()
    shelf.refusal = Unavailable("the store is busy")
    journal.append(records(1)[0])
    waiting = asyncio.create_task(journal.room())
    await asyncio.sleep(0)
    await journal.close()
    with pytest.raises(Unavailable, match="closed"):
        await waiting
    with pytest.raises(Unavailable, match="closed"):
        journal.append(b"{}")


async def test_one_server_per_directory(make: Make) -> None:
    first, second = make(), make()
    await first.open()
    with pytest.raises(Unavailable, match="another server is using this data directory"):
        await second.open()
    await first.close()
    await second.open()


async def test_a_directory_that_cannot_be(tmp_path: Path, shelf: Shelf) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable, match=r"^the journal cannot be written$"):
        await FileJournal(tmp_path / "file", shelf.write).open()


async def test_leftovers_are_replayed_without_what_is_broken(make: Make, shelf: Shelf, tmp_path: Path) -> None:
    first, second, third, cut = records(4)
    directory = tmp_path / "journal"
    directory.mkdir()
    (directory / "0000000009.journal").write_bytes(b"\n".join([first, b"", b"\0" * 100, b"{}", b'"\xff"', second, cut[:-5]]))
    (directory / "0000000010.journal").write_bytes(third + b"\n")
    (directory / "0000000011.journal").write_bytes(b"")
    (directory / "notes.journal").write_bytes(b"somebody else's")
    journal = make(PATIENT)
    assert await journal.open() == 3
    assert shelf.records == [first, second, third]
    assert [path.name for path in segments(tmp_path)] == ["notes.journal"]
    journal.append(first)
    assert [path.name for path in segments(tmp_path)] == ["0000000012.journal", "notes.journal"]


async def test_a_short_write_leaves_nothing(make: Make, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = make(PATIENT)
    await journal.open()
    first, second, third = records(3)
    journal.append(first)
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, data: write(file, data[:20]))
        with pytest.raises(Unavailable, match="full"):
            journal.append(second)
        assert segments(tmp_path)[0].read_bytes() == first + b"\n"
        patch.setattr(os, "ftruncate", lambda *_: (_ for _ in ()).throw(OSError(5, "no")))
        with pytest.raises(Unavailable, match="full"):
            journal.append(second)
    journal.append(third)
    assert [path.read_bytes() for path in segments(tmp_path)] == [first + b"\n" + second[:20], third + b"\n"]
    await journal.flush()
    assert shelf.records == [first, third]


# -- with processes that die -------------------------------------------------------------------------------------------

VICTIM = """
import asyncio, sys
from pathlib import Path
from spinney.errors import Unavailable
from spinney.stores.journal import FileJournal, JournalLimits
from spinney.stores.sql import SqlStore
from spinney.testing.store_suite import make_execution, make_function, texts

directory, function_id = Path(sys.argv[1]), sys.argv[2]
function = make_function(id=function_id)

async def main():
    store = SqlStore(f"sqlite:///{directory}/spinney.db")
    await store.open()
    journal = FileJournal(directory / "journal", store.write_executions, JournalLimits(segment_bytes=200_000))
    await journal.open()
    await work(journal)

"""

UNTIL_KILLED = """
async def work(journal):
    while True:
        for _ in range(50):
            execution = make_execution(function, output="x" * 300)
            journal.append(texts([execution])[0])
            print(execution.id, flush=True)
        await asyncio.sleep(0)

asyncio.run(main())
"""

UNTIL_FULL = """
async def work(journal):
    kept, refused = [], 0
    for _ in range(3000):
        execution = make_execution(function, output="x" * 1000)
        try:
            journal.append(texts([execution])[0])
            kept.append(execution.id)
        except Unavailable as error:
            assert error.message == "the disk of the data directory is full", error.message
            refused += 1
    assert kept and refused, (len(kept), refused)
    try:
        await journal.flush()
    except Unavailable:
        pass
    (directory / "ballast").unlink()
    await journal.flush()
    execution = make_execution(function)
    journal.append(texts([execution])[0])
    await journal.flush()
    await journal.close()
    Path(sys.argv[3]).write_text("\\n".join([*kept, execution.id]))

asyncio.run(main())
"""


async def stored(directory: Path) -> list[str]:
    """Recover as a restarted server does; the ids of all executions then in the store."""
    store = SqlStore(f"sqlite:///{directory}/spinney.db")
    await store.open()
    journal = FileJournal(directory / "journal", store.write_executions)
    await journal.open()
    found = await store.find_executions(FUNCTION.id, limit=1_000_000)
    await journal.close()
    await store.close()
    return [execution.id for execution in found]


@pytest.mark.parametrize("acknowledged", [1, 300, 5000, 12345])
async def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path, acknowledged: int) -> None:
    victim = await asyncio.create_subprocess_exec(
        sys.executable, "-c", VICTIM + UNTIL_KILLED, str(tmp_path), FUNCTION.id, stdout=subprocess.PIPE
    )
    assert victim.stdout is not None
    ids = [await victim.stdout.readline() for _ in range(acknowledged)]
    victim.send_signal(signal.SIGKILL)
    ids += (await victim.stdout.read()).splitlines(keepends=True)
    assert await victim.wait() == -signal.SIGKILL
    kept = {line.decode().strip() for line in ids if line.endswith(b"\n")}
    found = await stored(tmp_path)
    assert len(found) == len(set(found)), "none twice"
    assert kept <= set(found), "none lost"
    assert len(found) - len(kept) <= 1, "at most the one that was just to be acknowledged"
    assert len(await stored(tmp_path)) == len(found)


async def test_a_full_disk(tmp_path: Path) -> None:
    """On a file system of 6 MiB, most of it taken, in a mount namespace that ends with the process."""
    script = """
set -e
mount -t tmpfs -o size=6m tmpfs "$1"
head -c 5000000 /dev/zero > "$1/ballast"
"$2" -c "$3" "$1" "$4" "$5/ids"
"$2" -c "$6" "$1" "$4" > "$5/stored"
"""
    reader = """
import asyncio, sys
from spinney.stores.sql import SqlStore
async def main():
    store = SqlStore(f"sqlite:///{sys.argv[1]}/spinney.db")
    await store.open()
    print(*(e.id for e in await store.find_executions(sys.argv[2], limit=1_000_000)), sep="\\n")
    await store.close()
asyncio.run(main())
"""
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").mkdir()
    namespace = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    arguments = [str(tmp_path / "disk"), sys.executable, VICTIM + UNTIL_FULL, FUNCTION.id, str(tmp_path / "out"), reader]
    process = await asyncio.create_subprocess_exec(*namespace, "sh", "-c", script, "sh", *arguments)
    assert await process.wait() == 0
    kept = (tmp_path / "out" / "ids").read_text().split()
    assert sorted((tmp_path / "out" / "stored").read_text().split()) == sorted(kept)


async def test_what_is_replayed_is_what_was_said(make: Make, shelf: Shelf) -> None:
    odd = make_execution(FUNCTION, output="nul\0 \u2028 é 🌲 \n\r\\ud83d", logs="\n" * 10)
    journal = make()
    await journal.open()
    journal.append(msgspec.json.encode(odd))
    await journal.flush()
    assert msgspec.json.decode(shelf.records[0], type=Execution) == odd
