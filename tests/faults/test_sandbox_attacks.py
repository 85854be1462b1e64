"""Hostile code in a sandbox: what it tries must fail, its neighbours must keep answering, and the host must stay as it was."""

from __future__ import annotations

import asyncio
import json
import platform
import socket
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from spinney.drivers.oci import OciDriver
from spinney.model import Outcome
from spinney.ports import Launch, Mount, Sandbox
from spinney.testing.driver_suite import LAUNCH, ask, get, make_spec, opened

pytestmark = pytest.mark.anyio
EPERM, ENOSYS = 1, 38

ATTEMPTS = f"""
import ctypes, platform, socket
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
NUMBERS = {{  # x86_64, aarch64
    "acct": (163, 89), "add_key": (248, 217), "bpf": (321, 280), "chroot": (161, 51), "clock_settime": (227, 112),
    "clone": (56, 220), "clone3": (435, 435), "delete_module": (176, 106), "fanotify_init": (300, 262),
    "finit_module": (313, 273), "fsmount": (432, 432), "fsopen": (430, 430), "init_module": (175, 105),
    "io_setup": (206, 0), "io_uring_setup": (425, 425), "ioctl": (16, 29), "kcmp": (312, 272),
    "kexec_load": (246, 104), "keyctl": (250, 219), "lookup_dcookie": (212, 18), "mbind": (237, 235),
    "mount": (165, 40), "mount_setattr": (442, 442), "move_mount": (429, 429), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "open_tree": (428, 428), "perf_event_open": (298, 241), "personality": (135, 92),
    "pidfd_getfd": (438, 438), "pivot_root": (155, 41), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "ptrace": (101, 117), "quotactl": (179, 60), "reboot": (169, 142),
    "request_key": (249, 218), "seccomp": (317, 277), "setdomainname": (171, 162), "sethostname": (170, 161),
    "setns": (308, 268), "settimeofday": (164, 170), "socket": (41, 198), "swapon": (167, 224), "sync": (162, 81),
    "syslog": (103, 116), "umount2": (166, 39), "unshare": (272, 97), "userfaultfd": (323, 282), "vhangup": (153, 58),
    "vmsplice": (278, 75),
}}
column = {{"x86_64": 0, "aarch64": 1}}[platform.machine()]
def attempt(name, *arguments):
    ctypes.set_errno(0)
    value = libc.syscall(ctypes.c_long(NUMBERS[name][column]), *(ctypes.c_long(a) for a in arguments))
    return "done" if value >= 0 else ctypes.get_errno()
result = {{name: attempt(name, *[0] * 5) for name in NUMBERS
          if name not in ("clone", "clone3", "ioctl", "personality", "socket")}}
NAMESPACES = {{"mount": 0x20000, "cgroup": 0x2000000, "uts": 0x4000000, "ipc": 0x8000000, "user": 0x10000000, "pid": 0x20000000,
              "net": 0x40000000}}
SIGCHLD = 17
for name, flag in NAMESPACES.items():
    result["clone " + name] = attempt("clone", flag | SIGCHLD, 0, 0, 0, 0)
    result["unshare " + name] = attempt("unshare", flag)
result["ioctl TIOCSTI"] = attempt("ioctl", 1, 0x5412, 0)
result["ioctl TIOCSTI with a high bit"] = attempt("ioctl", 1, 0x5412 | 1 << 32, 0)
result["ioctl TIOCLINUX"] = attempt("ioctl", 1, 0x541C, 0)
result["personality without randomisation"] = attempt("personality", 0x40000)
for family, kind, protocol in ((9, 5, 0), (15, 3, 2), (16, 3, 6), (16, 3, 15), (17, 3, 0), (29, 3, 1), (31, 3, 1), (38, 5, 0),
                               (40, 1, 0), (44, 3, 0)):
    result["socket family %d protocol %d" % (family, protocol)] = attempt("socket", family, kind, protocol)
result["clone3"] = attempt("clone3", 0, 0) - {ENOSYS - EPERM}
result["personality asked"] = {EPERM} if attempt("personality", 0xFFFFFFFF) == "done" else 0
"""


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
async def driver() -> AsyncIterator[OciDriver]:
    driver = OciDriver(Path("/run/spinney", uuid.uuid4().hex))
    yield driver
    await driver.close()


@pytest.fixture
async def sandbox(driver: OciDriver) -> AsyncIterator[Sandbox]:
    async with opened(driver, make_spec(memory_mb=128)) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
async def neighbour(driver: OciDriver) -> AsyncIterator[Sandbox]:
    """A sandbox that has to answer whatever goes on around it."""
    async with opened(driver, make_spec()) as neighbour:
        yield neighbour


# -- the kernel ----------------------------------------------------------------------------------------------------------


async def test_system_calls_that_attack_the_kernel_are_refused(sandbox: Sandbox) -> None:
    answers = await get(sandbox, "python", code=ATTEMPTS)
    if platform.machine() == "aarch64":
        del answers["io_setup"]
    assert {name: answer for name, answer in answers.items() if answer != EPERM} == {}
    assert len(answers) > 70


async def test_there_is_no_privilege_to_gain(sandbox: Sandbox) -> None:
    status = dict(line.split(":\t") for line in (await get(sandbox, "read", path="/proc/self/status")).splitlines())
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"], status["Uid"]) == ("1", "2", "1000\t1000\t1000\t1000")
    assert status["SigIgn"].endswith("1001000"), "only what Python itself ignores"
    for attempt in ("os.setuid(0)", "os.setgid(0)", "os.setgroups([0])", "os.chown('/tmp', 0, 0)", "os.nice(-1)"):
        assert (await ask(sandbox, "python", code=f"import os; {attempt}")).outcome is Outcome.ERROR, attempt
    code = "import subprocess; result = subprocess.run(['/bin/su', '-c', 'id'], capture_output=True, stdin=-3).stdout.decode()"
    assert "uid=0" not in await get(sandbox, "python", code=code)


async def test_limits_of_the_process_are_hard(sandbox: Sandbox) -> None:
    code = "import resource as r; result = [r.getrlimit(x) for x in (r.RLIMIT_NOFILE, r.RLIMIT_CORE, r.RLIMIT_MEMLOCK)]"
    assert await get(sandbox, "python", code=code) == [[4096, 4096], [0, 0], [65536, 65536]]
    code = "import os\nfds = []\nwhile True: fds.append(os.open('/dev/null', 0))"
    assert "Too many open files" in (await ask(sandbox, "python", code=code)).message


# -- the host ------------------------------------------------------------------------------------------------------------


async def test_nothing_of_the_host_is_in_sight(sandbox: Sandbox) -> None:
    code = """
import os
def names(path):
    try:
        return sorted(os.listdir(path))
    except OSError as error:
        return error.strerror
result = {path: names(path) for path in
          ("/", "/root", "/home", "/var", "/var/task", "/run", "/sys", "/tmp", "/opt", "/work", "/mnt", "/boot", "/proc/1/root")}
result["processes"] = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
result["devices"] = sorted(os.listdir("/dev"))
result["ssh"] = os.path.exists("/etc/shadow") or os.path.exists("/etc/ssh")
"""
    seen = await get(sandbox, "python", code=code)
    assert set(seen["/"]) <= {
        "bin",
        "dev",
        "etc",
        "lib",
        "lib32",
        "lib64",
        "libx32",
        "opt",
        "proc",
        "run",
        "sbin",
        "sys",
        "tmp",
    } | {
        "usr",
        "var",
    }
    assert seen["/var"] == ["task", "tmp"]
    assert seen["/opt"] == ["spinney-suite"]
    assert [seen[path] for path in ("/var/task", "/run", "/sys", "/tmp")] == [[], [], [], []]
    gone = ("/root", "/home", "/work", "/mnt", "/boot")
    assert {seen[path] for path in gone} == {"No such file or directory"}
    assert len(seen["processes"]) == 2
    assert set(seen["devices"]) <= {"core", "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout"} | {
        "tty",
        "urandom",
        "zero",
    }
    assert seen["ssh"] is False


async def test_no_host_path_or_secret_in_proc(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPINNEY_ADMIN_KEY", "very-secret")
    code = """
import os
result = {}
for pid in [name for name in os.listdir("/proc") if name.isdigit()]:
    for name in ("cmdline", "environ", "cgroup", "mounts"):
        try:
            result[pid + name] = open("/proc/%s/%s" % (pid, name)).read()
        except OSError as error:
            result[pid + name] = error.strerror
for name in ("cmdline", "keys", "timer_list"):
    result[name] = open("/proc/" + name).read()
"""
    seen = await get(sandbox, "python", code=code)
    assert [seen[name] for name in ("cmdline", "keys", "timer_list")] == ["", "", ""]
    assert {line.rsplit(":", 1)[1] for line in seen["1cgroup"].splitlines()} == {"/"}
    text = json.dumps(seen)
    for secret in ("very-secret", "/run/spinney", sandbox.id, str(Path.cwd()), socket.gethostname()):
        assert secret not in text


@pytest.fixture
def nested(tmp_path: Path) -> Iterator[Path]:
    """A directory with a file system below it that everybody may write."""
    inner = tmp_path / "inner"
    inner.mkdir()
    tmp_path.chmod(0o755)
    _run("mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", str(inner))
    yield tmp_path
    _run("umount", str(inner))


async def test_file_systems_below_a_shown_directory_are_read_only_too(driver: OciDriver, nested: Path) -> None:
    launch = Launch(key="nested", argv=LAUNCH.argv, mounts=(*LAUNCH.mounts, Mount(str(nested), "/opt/shown")))
    async with opened(driver, make_spec(launch)) as sandbox:
        assert await get(sandbox, "python", code="import os; result = os.listdir('/opt/shown')") == ["inner"]
        for path in ("/opt/shown/x", "/opt/shown/inner/x"):
            assert "Read-only file system" in (await ask(sandbox, "python", code=f"open({path!r}, 'w')")).message


async def test_proc_and_sys_cannot_be_written(sandbox: Sandbox) -> None:
    paths = ("sys/kernel/hostname", "sys/kernel/core_pattern", "sys/vm/drop_caches", "sysrq-trigger", "1/oom_score_adj", "1/mem")
    for path in paths:
        reply = await ask(sandbox, "python", code=f"import os; os.write(os.open('/proc/{path}', os.O_WRONLY), b'-900')")
        assert reply.outcome is Outcome.ERROR, path


async def test_the_host_cannot_be_reached(sandbox: Sandbox) -> None:
    addresses = [line.split()[3].split("/")[0] for line in _run("ip", "-4", "-o", "address").splitlines()]
    with socket.create_server(("0.0.0.0", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0" + (name := f"spinney-{uuid.uuid4()}"))
        abstract.listen()
        port = server.getsockname()[1]
        for address in [*addresses, "127.0.0.1", "169.254.169.254", "192.88.99.1"]:
            code = f"import socket; socket.create_connection(({address!r}, {port}), 5)"
            assert (await ask(sandbox, "python", code=code)).outcome is Outcome.ERROR, address
        code = f"import socket; socket.socket(socket.AF_UNIX).connect(chr(0) + {name!r})"
        assert "Connection refused" in (await ask(sandbox, "python", code=code)).message
    code = "import socket; result = [name for _, name in socket.if_nameindex()]"
    assert await get(sandbox, "python", code=code) == ["lo"]


async def test_links_in_tmp_lead_nowhere_on_the_host(sandbox: Sandbox) -> None:
    code = "import os; os.symlink('/etc/shadow', '/tmp/a'); os.symlink('/proc/1/root/../../../../root', '/tmp/b')"
    await ask(sandbox, "python", code=code)
    for path in ("/tmp/a", "/tmp/b/.bashrc", "/proc/1/root/root/.bashrc", "/proc/self/cwd/../../../../../root/.bashrc"):
        assert "No such file" in (await ask(sandbox, "read", path=path)).message


async def test_sandboxes_do_not_see_each_other(sandbox: Sandbox, neighbour: Sandbox) -> None:
    code = "import os; open('/tmp/mark', 'w'); open('/dev/shm/mark', 'w'); result = os.listdir('/tmp')"
    assert await get(neighbour, "python", code=code) == ["mark"]
    code = """
import glob, os, signal
for pid in range(1, 40000):
    try:
        os.kill(pid, 0)
        if pid > 2 and pid != os.getpid():
            raise RuntimeError("a process: %d" % pid)
    except ProcessLookupError:
        pass
result = glob.glob("/proc/*/root/tmp/mark") + glob.glob("/dev/shm/*")
"""
    assert await get(sandbox, "python", code=code) == []
    code = "import os; result = os.stat('/proc/self/ns/user').st_ino"
    first, second = await get(sandbox, "python", code=code), await get(neighbour, "python", code=code)
    assert first != second


# -- resources -----------------------------------------------------------------------------------------------------------

BOMBS = {
    "fork bomb": ("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", Outcome.TIMEOUT),
    "threads": ("import threading\nwhile True: threading.Thread(target=lambda: [0 for _ in iter(int, 1)]).start()", None),
    "memory": ("data = []\nwhile True: data.append(bytearray(b'x' * (8 << 20)))", Outcome.OUT_OF_MEMORY),
    "memory of children": (
        "import os\nfor _ in range(20): os.fork()\ndata = []\nwhile True: data.append(bytearray(b'x' * (1 << 20)))",
        None,
    ),
    "busy loops": ("import os\nfor _ in range(5): os.fork()\nwhile True: pass", Outcome.TIMEOUT),
    "shared memory": ("f = open('/dev/shm/x', 'wb')\nwhile True: f.write(bytes(1 << 20))", None),
    "files in tmp": ("n = 0\nwhile True:\n    open('/tmp/%d' % n, 'w').close(); n += 1", None),
    "stdout": ("import os\nfor _ in range(1024): os.write(1, b'x' * (1 << 20))\nresult = 1", Outcome.OK),
    "stderr lines": ("import os\nwhile True: os.write(2, b'x\\n' * 30000)", Outcome.TIMEOUT),
    "signals": ("import os\nos.fork()\nwhile True: os.kill(-1, 10)", None),
    "pipes": (
        "import os\nheld = []\nwhile True:\n    try: held.append(os.pipe())\n    except OSError: break\nresult = 1",
        Outcome.OK,
    ),
    "closing everything": ("import os\nos.closerange(0, 4096)\nwhile True: pass", Outcome.TIMEOUT),
}


@pytest.mark.parametrize("name", BOMBS)
async def test_a_bomb_hurts_only_its_own_sandbox(driver: OciDriver, neighbour: Sandbox, name: str) -> None:
    code, expected = BOMBS[name]
    async with opened(driver, make_spec(memory_mb=128, log_bytes=1 << 16)) as sandbox:
        attack = asyncio.create_task(ask(sandbox, "python", code=code, timeout_s=2.0))
        answers = 0
        while not attack.done():
            assert await get(neighbour, "echo", value=answers) == answers
            answers += 1
            await asyncio.wait((attack,), timeout=0.1)
        reply = await attack
        assert expected is None or reply.outcome is expected, reply
        if not reply.reusable:
            assert await sandbox.poll() is not None
    assert answers > 0
    assert await get(neighbour, "echo", value="after") == "after"


async def test_process_one_survives_its_children(sandbox: Sandbox) -> None:
    code = "import os; os.kill(1, 9); os.kill(1, 19); result = os.getppid()"
    assert await get(sandbox, "python", code=code) == 1
    assert await get(sandbox, "echo", value=1) == 1


async def test_an_orphan_dies_with_the_guest(sandbox: Sandbox) -> None:
    code = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(1000)
    os._exit(0)
os._exit(5)
"""
    reply = await ask(sandbox, "python", code=code)
    assert (reply.outcome, reply.exit_code) == (Outcome.EXITED, 5)


# -- the channel ---------------------------------------------------------------------------------------------------------


def _frame(kind: int, payload: bytes, call: int = 1, size: int | None = None) -> str:
    length = len(payload) if size is None else size
    return (length.to_bytes(4, "little") + call.to_bytes(4, "little") + bytes([kind]) + payload).hex()


FORGERIES = {
    "unknown kind": _frame(99, b""),
    "reserved kind": _frame(6, b"{}"),
    "kind zero": _frame(0, b""),
    "ready twice": _frame(1, b"{}"),
    "result of a guessed call": _frame(4, bytes(5) + b'"forged"'),
    "result without room for its header": _frame(4, b"\0"),
    "result with a meta longer than itself": _frame(4, b"\0\xff\xff\xff\xff"),
    "unknown outcome": _frame(4, b"\x63" + bytes(4)),
    "giant frame": _frame(4, b"", size=0xFFFFFFFF),
    "garbage": "ff" * 64,
}


@pytest.mark.parametrize("name", FORGERIES)
async def test_breaking_the_protocol_ends_the_sandbox(driver: OciDriver, neighbour: Sandbox, name: str) -> None:
    async with opened(driver, make_spec()) as sandbox:
        reply = await ask(sandbox, "raw", data=FORGERIES[name])
        assert (reply.outcome, reply.reusable) == (Outcome.EXITED, False)
        assert await sandbox.poll() is not None
    assert await get(neighbour, "echo", value=1) == 1


async def test_an_unfinished_frame_waits_for_the_deadline(sandbox: Sandbox) -> None:
    reply = await ask(sandbox, "raw", data=_frame(4, b"", size=1000), timeout_s=0.3)
    assert reply.outcome is Outcome.TIMEOUT


async def test_a_log_frame_in_the_name_of_nobody_is_dropped(sandbox: Sandbox) -> None:
    forged = bytes.fromhex(_frame(5, b"\x00forged", call=77))
    reply = await ask(sandbox, "python", code=f"import os; os.write(3, {forged!r}); result = 1")
    assert (reply.outcome, list(reply.logs)) == (Outcome.OK, [])


async def test_closing_the_channel_spoils_only_its_own_answer(sandbox: Sandbox) -> None:
    reply = await ask(sandbox, "close", fd=3, timeout_s=0.3)
    assert (reply.outcome, reply.reusable) == (Outcome.TIMEOUT, False)
    assert await sandbox.poll() == 137


async def test_only_the_channel_and_the_standard_streams_are_open(sandbox: Sandbox) -> None:
    code = """
import os
result = {}
for name in os.listdir("/proc/self/fd"):
    try:
        result[name] = os.readlink("/proc/self/fd/" + name).split(":")[0]
    except OSError:
        pass
"""
    assert await get(sandbox, "python", code=code) == {"0": "/dev/null", "1": "pipe", "2": "pipe", "3": "socket"}


def _run(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout
