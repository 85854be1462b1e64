"""The driver without root: as an ordinary user, with and without subordinate ids."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.processes import refuse_orphans

NOBODY = 65534
SUBORDINATE = 500_000

PROGRAM = """
import asyncio, json, sys
from pathlib import Path
from spinney.drivers.oci import OciDriver
from spinney.errors import StartFailed
from spinney.testing.driver_suite import FORK_UNTIL_REFUSED, ask, get, make_spec, opened
from spinney.ports import Command, Load, Limits

STATUS = '''
status = {line.partition(":")[0]: line.partition(":")[2].strip() for line in open("/proc/self/status")}
result = [status[name] for name in ("CapEff", "NoNewPrivs", "Seccomp")]
'''

async def main():
    driver = OciDriver(Path(sys.argv[1]))
    features = driver.features
    facts = {"tier": features.tier, "memory": features.limits_memory, "network": features.network}
    async with opened(driver, make_spec(pids=32)) as sandbox, opened(driver, make_spec()) as other:
        sandbox.load(Load(files={"a.py": b"x"}, payload=b"{}", limits=Limits(pids=32)))
        facts["code"] = await get(sandbox, "read", path="/var/task/a.py")
        facts["uid"] = await get(sandbox, "python", code="import os; result = os.getuid()")
        facts["status"] = await get(sandbox, "python", code=STATUS)
        facts["forks"] = await get(sandbox, "python", code=FORK_UNTIL_REFUSED)
        facts["neighbour"] = await get(other, "echo", value=1)
        facts["write"] = (await ask(sandbox, "python", code="open('/var/task/b', 'w')")).outcome
        facts["outside"] = (await ask(sandbox, "python", code="import os; os.listdir('/home')")).outcome
        process = await sandbox.exec(Command(argv=("/bin/sh", "-c", "exit 3")))
        facts["exec"] = await process.wait()
        facts["timeout"] = (await ask(sandbox, "spin", timeout_s=0.3)).outcome
        facts["poll"] = await sandbox.poll()
    try:
        await driver.create(make_spec(network=True))
    except StartFailed as error:
        facts["refused"] = error.message
    await driver.close()
    print(json.dumps(facts))

asyncio.run(main())
"""


SWEEP = """
import asyncio, json, sys
from pathlib import Path
from spinney.drivers.oci import OciDriver
from tests.faults.test_sandbox_leftovers import Server

async def main():
    server = Server(Path(sys.argv[1]), 2)
    pids = [path.read_text() for path in Path(sys.argv[1]).glob("s/*/pid")]
    server.kill()
    driver = OciDriver(Path(sys.argv[1]))
    swept = await driver.sweep(())
    await driver.close()
    print(json.dumps({"swept": swept, "alive": [pid for pid in pids if is_alive(pid)]}))

def is_alive(pid):
    try:
        return Path("/proc", pid, "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False

asyncio.run(main())
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory of an ordinary user's own."""
    path = Path(tempfile.mkdtemp(prefix="spinney-rootless-"))
    os.chown(path, NOBODY, NOBODY)
    yield path
    shutil.rmtree(path)


def run_as_nobody(home: Path, program: str, *, before: str = "") -> dict[str, Any]:
    """What a program finds; ``before`` is done as root, in a mount namespace of its own."""
    refuse_orphans()
    user = f"setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups"
    with tempfile.TemporaryDirectory(prefix="spinney-rootless-tree-") as place:
        # The checkout may lie where an ordinary user cannot go, such as /root: it is shown to him elsewhere.
        tree, venv = Path(place, "tree"), Path(place, "venv")
        Path(place).chmod(0o755)
        tree.mkdir()
        venv.mkdir()
        show = f"mount --rbind {Path.cwd()} {tree}; mount --rbind {sys.prefix} {venv}; cd {tree}"
        command = f'{before}\n{show}\nexec {user} "$0" -c "$1" "$2"'
        argv = ["unshare", "-m", "sh", "-ec", command, str(venv / "bin" / "python"), program, str(home / "run")]
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": f"{tree / 'src'}:{tree}"}
        done = subprocess.run(argv, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert list(home.iterdir()) in ([], [home / "subordinate"]), "nothing is left"
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return facts


def give_subordinate_ids(home: Path) -> str:
    table = home / "subordinate"
    table.write_text(f"nobody:{SUBORDINATE}:65536\n")
    return f"mount --bind {table} /etc/subuid; mount --bind {table} /etc/subgid"


def check(facts: dict[str, Any]) -> None:
    assert facts["tier"] == "oci/runc rootless"
    assert (facts["memory"], facts["network"]) == (False, False), "and says so"
    assert facts["code"] == "x"
    assert facts["status"] == ["0" * 16, "1", "2"]
    assert 20 <= facts["forks"] <= 32
    assert facts["neighbour"] == 1
    assert (facts["write"], facts["outside"]) == ("error", "error")
    assert (facts["exec"], facts["timeout"], facts["poll"]) == (3, "timeout", 137)
    assert facts["refused"] == "this server has no network for sandboxes"


def test_an_ordinary_user_with_one_id(home: Path) -> None:
    facts = run_as_nobody(home, PROGRAM)
    check(facts)
    assert facts["uid"] == 0


def test_an_ordinary_user_with_subordinate_ids(home: Path) -> None:
    facts = run_as_nobody(home, PROGRAM, before=give_subordinate_ids(home))
    check(facts)
    assert facts["uid"] == 1000


@pytest.mark.parametrize("subordinate", [False, True], ids=["one id", "subordinate ids"])
def test_a_killed_server_of_an_ordinary_user_is_swept_up_after(home: Path, subordinate: bool) -> None:
    facts = run_as_nobody(home, SWEEP, before=give_subordinate_ids(home) if subordinate else "")
    assert facts["swept"] >= 2
    assert facts["alive"] == []
