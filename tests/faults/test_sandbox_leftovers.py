"""After a sandbox, a failed start, a killed server: nothing is left on the host."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.processes import refuse_orphans

from spinney.drivers.oci import OciDriver, OciSettings
from spinney.errors import StartFailed, Unavailable
from spinney.ports import Launch, Mount
from spinney.testing.driver_suite import get, make_spec, opened

pytestmark = pytest.mark.anyio

SERVER = """
import asyncio, sys
from pathlib import Path
from spinney.drivers.oci import OciDriver
from spinney.testing.driver_suite import ask, make_spec

async def main():
    driver = OciDriver(Path(sys.argv[1]))
    tasks = []
    for _ in range(int(sys.argv[2])):
        sandbox = await driver.create(make_spec(network=len(sys.argv) > 3))
        tasks.append(asyncio.create_task(ask(sandbox, "spin", timeout_s=1000)))
        print(sandbox.id, flush=True)
    tasks += [asyncio.create_task(driver.create(make_spec())) for _ in range(4)]
    print("starting", flush=True)
    await asyncio.gather(*tasks)
    print("done", flush=True)
    await asyncio.sleep(1000)

asyncio.run(main())
"""


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def run_dir() -> Path:
    return Path("/run/spinney", uuid.uuid4().hex)


@pytest.fixture
async def driver(run_dir: Path) -> AsyncIterator[OciDriver]:
    driver = OciDriver(run_dir)
    yield driver
    await driver.close()


@pytest.fixture
async def impatient(run_dir: Path) -> AsyncIterator[OciDriver]:
    """A driver that gives a guest one second to be ready."""
    driver = OciDriver(run_dir, OciSettings(start_timeout_s=1.0))
    yield driver
    await driver.close()


def find_traces(*words: str) -> list[str]:
    """Processes, mounts, control groups and links of the host that have one of the words in their name or command line."""
    found = [str(path) for path in Path("/sys/fs/cgroup").glob("*/*/*") if path.is_dir()]
    found += [str(path) for path in Path("/sys/fs/cgroup").glob("*/*") if path.is_dir()]
    found += Path("/proc/mounts").read_text().splitlines()
    found += [str(path) for path in Path("/run/spinney").glob("*/*/*")] + [str(path) for path in Path("/run/spinney").glob("*")]
    found += [path.name for path in Path("/sys/class/net").iterdir()]
    found += subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout.splitlines()
    found += [entry for entry in _command_lines() if "pytest" not in entry]
    return [entry for entry in found if any(word in entry for word in words)]


def _command_lines() -> list[str]:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return lines


def find_zombies() -> list[str]:
    """Children of this process that have ended and were not waited for."""
    children = Path("/proc/self/task", str(os.getpid()), "children").read_text().split()
    stats = [Path("/proc", pid, "stat").read_text() for pid in children]
    return [stat for stat in stats if stat.rsplit(")", 1)[1].split()[0] == "Z"]


def count_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class Server:
    """A process with a driver of its own: it makes ``count`` sandboxes that are busy for ever, starts four more, and waits."""

    def __init__(self, run_dir: Path, count: int, *flags: str) -> None:
        command = (sys.executable, "-c", SERVER, str(run_dir), str(count), *flags)
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.ids = [self._read() for _ in range(count)]
        assert self._read() == "starting"

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def kill(self) -> None:
        refuse_orphans()
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


async def test_nothing_is_left_after_close(driver: OciDriver, run_dir: Path) -> None:
    async with opened(driver, make_spec()):
        pass
    before = count_descriptors()
    ids = []
    for _ in range(5):
        async with opened(driver, make_spec()) as sandbox:
            ids.append(sandbox.id)
            assert find_traces(sandbox.id)
            await get(sandbox, "echo", value=1)
        assert find_traces(sandbox.id) == []
    assert count_descriptors() == before
    assert find_zombies() == []
    await driver.close()
    assert find_traces(*ids, run_dir.name, driver.tag) == []


@pytest.mark.parametrize(
    "launch",
    [
        Launch(key="exits", argv=("/bin/false",)),
        Launch(key="missing", argv=("/no/such/program",)),
        Launch(key="mount", argv=("/bin/true",), mounts=(Mount("/no/such/directory", "/opt/x"),)),
        Launch(key="mute", argv=("/bin/sleep", "1000")),
        Launch(key="liar", argv=("/bin/sh", "-c", "echo garbage >&3; sleep 1000")),
    ],
    ids=lambda launch: launch.key,
)
async def test_a_failed_start_says_so_and_leaves_nothing(impatient: OciDriver, launch: Launch) -> None:
    spec = make_spec(launch)
    with pytest.raises(StartFailed) as failure:
        await impatient.create(spec)
    assert "/" not in failure.value.message
    assert find_traces(spec.id) == []
    assert find_zombies() == []
    async with opened(impatient, make_spec()) as sandbox:
        assert await get(sandbox, "echo", value=1) == 1


@pytest.mark.parametrize("moment", range(0, 60, 6))
async def test_a_start_cancelled_at_any_moment_leaves_nothing(driver: OciDriver, moment: int) -> None:
    spec = make_spec()
    task = asyncio.create_task(driver.create(spec))
    await asyncio.wait((task,), timeout=moment / 1000)
    task.cancel()
    made = (await asyncio.gather(task, return_exceptions=True))[0]
    if not isinstance(made, BaseException):
        await made.close()
    assert find_traces(spec.id) == []
    assert find_zombies() == []


async def test_closing_the_driver_ends_starts_in_progress(driver: OciDriver, run_dir: Path) -> None:
    starts = [asyncio.create_task(driver.create(make_spec())) for _ in range(8)]
    await asyncio.wait(starts, timeout=0.05)
    await driver.close()
    outcomes = await asyncio.gather(*starts, return_exceptions=True)
    for outcome in outcomes:
        assert isinstance(outcome, Unavailable) or await outcome.poll() is not None  # type: ignore[union-attr]
    assert find_traces(run_dir.name, driver.tag) == []
    with pytest.raises(Unavailable):
        await driver.create(make_spec())


async def test_a_killed_server_is_swept_up_after(run_dir: Path) -> None:
    server = Server(run_dir, 3)
    server.kill()
    driver = OciDriver(run_dir)
    assert await driver.sweep(()) >= 3
    assert find_traces(*server.ids) == []
    assert find_traces("spinney-suite/guest.py", f"{run_dir}/s") == []
    assert await driver.sweep(()) == 0
    async with opened(driver, make_spec()) as sandbox:
        assert await get(sandbox, "echo", value=1) == 1
    await driver.close()
    assert find_traces(run_dir.name, driver.tag) == []


async def test_a_live_server_is_left_alone(driver: OciDriver, run_dir: Path) -> None:
    async with opened(driver, make_spec()) as sandbox:
        second, other = OciDriver(run_dir), OciDriver(run_dir.with_name(uuid.uuid4().hex))
        with pytest.raises(Unavailable):
            await second.sweep(())
        assert await other.sweep(()) == 0
        await second.close()
        await other.close()
        assert await get(sandbox, "echo", value=1) == 1
