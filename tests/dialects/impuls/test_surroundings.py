"""What a function finds around it: environment, files, network, processes, memory (contract 3.7, traps 6, 18)."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import ADMIN_KEY
from tests.dialects.impuls.api import TRIVIAL, Api, Function
from tests.processes import find_processes, new_name, status_of
from tests.server import Server, wait_until

FIXED = {"PATH", "HOME", "TMPDIR", "LANG", "TZ"}

# Collects what can be read of every process that can be seen.
PROC = """
    const fs = require('fs'), seen = {};
    for (const pid of fs.readdirSync('/proc').filter((name) => /^(\\d+|self|thread-self)$/.test(name)))
        for (const part of ['environ', 'cmdline', 'cgroup'])
            try { seen[pid + '/' + part] = fs.readFileSync(`/proc/${pid}/${part}`, 'latin1') } catch {}
    return seen;
"""

# Those of ``paths`` that are files with something in them or directories that are not empty.
READABLE = """
    const fs = require('fs');
    paths.filter((path) => {
        try { return (fs.statSync(path).isDirectory() ? fs.readdirSync(path) : fs.readFileSync(path)).length }
        catch { return false }
    })
"""

FORK_BOMB = """
import os, time
def handler(event, context):
    children, error = [], None
    try:
        while len(children) < 1000:
            pid = os.fork()
            if pid == 0:
                time.sleep(100)
                os._exit(0)
            children.append(pid)
    except OSError as caught:
        error = caught.errno
    for pid in children:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    return [len(children), error]
"""

# How many of six children with 80 MB each are there at the same time; those that the kernel ends die of another signal than ours.
CHILDREN = """
import os, signal, struct, time
def handler(event, context):
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    alive, ready = set(), set()
    for _ in range(6):
        pid = os.fork()
        if pid == 0:
            block = bytearray(80_000_000)
            block[::4096] = b"x" * len(block[::4096])
            os.write(writer, struct.pack("i", os.getpid()))
            time.sleep(100)
            os._exit(0)
        alive.add(pid)
    while not alive <= ready:
        time.sleep(0.01)
        try:
            ready.update(pid for pid, in struct.iter_unpack("i", os.read(reader, 24)))
        except BlockingIOError:
            pass
        alive -= {pid for pid in alive if os.waitpid(pid, os.WNOHANG)[0]}
    for pid in alive:
        os.kill(pid, signal.SIGUSR1)
    return [os.WTERMSIG(os.waitpid(pid, 0)[1]) for pid in alive].count(signal.SIGUSR1)
"""

CONNECT = """
    const { host, port } = event;
    return await new Promise((go) => {
        const socket = require('net').connect({host, port, timeout: 1500});
        socket.on('connect', () => { go('connected'); socket.destroy() });
        socket.on('timeout', () => { go('timeout'); socket.destroy() });
        socket.on('error', (error) => go(error.code));
    });
"""


def addresses() -> list[str]:
    """Every address of this machine that is not loopback."""
    found: set[str] = set()
    for line in Path("/proc/net/fib_trie").read_text().split("|--")[1:]:
        if "host LOCAL" in line:
            found.add(line.split()[0])
    return sorted(one for one in found if not one.startswith("127.") and one != "::1")


@pytest.mark.parametrize("runtime", ["nodejs18", "nodejs20", "nodejs22"])
def test_environment_of_node(api: Api, runtime: str) -> None:
    found = api.node("return process.env", runtime=runtime, environment={"MINE": "größe", "EMPTY": ""})()
    assert set(found) == FIXED | {"NODE_ENV", "MINE", "EMPTY"}
    assert (found["MINE"], found["EMPTY"], found["NODE_ENV"], found["TZ"]) == ("größe", "", "production", "UTC")
    assert found["LANG"].upper().replace("-", "").endswith("UTF8")


def test_environment_of_python(api: Api) -> None:
    code = "import os\ndef handler(event, context): return dict(os.environ)"
    found = api.python(code, environment={"MINE": "größe"})()
    assert set(found) == FIXED | {"MINE"}
    assert (found["MINE"], found["TZ"]) == ("größe", "UTC")
    assert found["LANG"].upper().replace("-", "").endswith("UTF8")


def test_the_functions_own_variables_win(api: Api) -> None:
    own = {"TZ": "Europe/Berlin", "NODE_ENV": "test", "HOME": "/tmp", "PATH": "/nowhere", "LANG": "C"}
    assert api.node("return process.env", environment=own)() == {**own, "TMPDIR": "/tmp"}


def test_variables_that_would_change_the_runtime_are_only_data(api: Api) -> None:
    hostile = {"NODE_OPTIONS": "--no-such-flag", "LD_PRELOAD": "/nowhere.so", "NODE_PATH": "/x", "UV_THREADPOOL_SIZE": "-1"}
    assert api.node("return process.env.NODE_OPTIONS", environment=hostile)() == "--no-such-flag"
    hostile = {"PYTHONHOME": "/nowhere", "PYTHONPATH": "/x", "PYTHONSTARTUP": "/y", "PYTHONINSPECT": "1"}
    code = "import os\ndef handler(event, context): return os.environ['PYTHONHOME']"
    assert api.python(code, environment=hostile)() == "/nowhere"


def test_children_inherit_the_environment(api: Api) -> None:
    function = api.node("return require('child_process').execSync('echo $MINE $SET').toString()", environment={"MINE": "1"})
    assert function() == "1\n"
    assert api.python(
        "import os\ndef handler(e, c):\n    os.environ['SET'] = '2'\n    return os.popen('echo $MINE $SET').read()",
        environment={"MINE": "1"},
    )() == ("1 2\n")


def test_the_environment_is_put_back_before_each_invocation(api: Api) -> None:
    change = "process.env.ADDED = '1'; delete process.env.TZ; process.env.MINE = 'changed'"
    node = api.node(f"const seen = {{...process.env}}; {change}; return seen", environment={"MINE": "1"})
    code = """
import os
def handler(event, context):
    seen = dict(os.environ)
    os.environ.clear()
    os.environ["ADDED"] = "1"
    return seen
"""
    python = api.python(code, environment={"MINE": "1"})
    for function in (node, python):
        first = function()
        assert first["MINE"] == "1" and "ADDED" not in first
        assert [function() for _ in range(4)] == [first] * 4


def test_nothing_of_the_servers_shows(server: Server, api: Api) -> None:
    """Neither in the environment nor in any file of /proc: no key, no variable, no host path, no command line."""
    secrets = [ADMIN_KEY, str(server.data_dir), "SPINNEY_", str(Path(__file__).parents[3]), "pytest"]
    for text in (api.node(PROC)(), api.node("return process.env")()):
        found = json.dumps(text)
        assert [secret for secret in secrets if secret in found] == []


def test_a_variable_of_the_servers_environment_stays_there(
    make_server: Callable[..., Server], connect: Callable[..., Api]
) -> None:
    api = connect(make_server(env={"OPERATORS_SECRET": "hush-7f3a", "NODE_OPTIONS": "", "PYTHONWARNINGS": "error"}))
    assert "hush-7f3a" not in json.dumps(api.node(PROC)())
    assert set(api.node("return Object.keys(process.env)")()) == FIXED | {"NODE_ENV"}


def test_where_the_code_is(api: Api) -> None:
    where = "[__filename, __dirname, process.cwd(), require('fs').readFileSync(__filename, 'utf8').length > 50]"
    assert api.node(f"return {where}", handler="main.handler")() == ["/var/task/main.js", "/var/task", "/var/task", True]
    code = "import { fileURLToPath as path } from 'node:url'; export const handler = () => [path(import.meta.url), process.cwd()]"
    assert api.function(code)() == ["/var/task/index.mjs", "/var/task"]


@pytest.mark.parametrize(
    "path",
    ["/var/task/index.js", "/var/task/new", "/usr/bin/new", "/etc/passwd", "/new", "/var/new", "/proc/sys/kernel/hostname"],
)
def test_only_tmp_is_writable(js: Function, path: str) -> None:
    code = js(
        f"(() => {{ try {{ require('fs').appendFileSync('{path}', 'x'); return 'written' }} catch (e) {{ return e.code }} }})()"
    )
    assert code in ("EROFS", "EACCES", "EPERM", "ENOENT")


def test_tmp_is_private(api: Api) -> None:
    marker = Path("/tmp") / f"spinney-test-{os.getpid()}"
    marker.write_text("host")
    try:
        code = "const fs = require('fs'); const seen = fs.readdirSync('/tmp'); fs.writeFileSync('/tmp/mine', 'x'); return seen"
        one, two = api.node(code), api.node(code)
        assert one() == [] and two() == []
    finally:
        marker.unlink()


def test_tmp_is_full_at_256_mb(api: Api) -> None:
    function = api.node(
        """
        const fs = require('fs'), mib = Buffer.alloc(1 << 20), file = fs.openSync('/tmp/big', 'w');
        let written = 0;
        try { for (; written < 300; written++) fs.writeSync(file, mib) }
        catch (error) { return [written, error.code] }
        finally { fs.rmSync('/tmp/big') }
        """,
        memory_mb=512,
    )
    assert function() == [256, "ENOSPC"]


def test_tmp_counts_as_memory(api: Api) -> None:
    function = api.node(
        "for (let n = 0; n < 250; n++) require('fs').appendFileSync('/tmp/big', Buffer.alloc(1 << 20)); return 'fitted'",
        memory_mb=64,
    )
    assert function.error() == "function exceeded its memory limit of 64 MB"


def test_nothing_of_the_host_is_visible(server: Server, js: Function) -> None:
    (server.data_dir / "marker").write_text("host")
    try:
        hidden = [
            str(server.data_dir / "marker"),
            str(Path(__file__)),
            "/root/.bashrc",
            "/etc/shadow",
            "/var/log",
            "/var/lib",
            "/boot",
            "/sys/fs",
        ]
        roots = ["", "/proc/self/root", "/proc/1/root", "/proc/self/cwd/../..", "/tmp/.."]
        paths = [root + path for root in roots for path in hidden]
        read = js(f"const paths = {json.dumps(paths)}; {READABLE}")
    finally:
        (server.data_dir / "marker").unlink()
    assert read == []


def test_home_directories_are_empty_or_absent(js: Function) -> None:
    for path in ("/root", "/home", "/srv", "/mnt", "/media"):
        assert js(f"(() => {{ try {{ return require('fs').readdirSync('{path}') }} catch {{ return [] }} }})()") == [], path


def test_no_way_to_the_network(server: Server, api: Api) -> None:
    function = api.node(CONNECT)
    assert function({"host": "127.0.0.1", "port": server.port}) == "ECONNREFUSED"
    for host in addresses():
        assert function({"host": host, "port": server.port}) in (
            "ENETUNREACH",
            "EHOSTUNREACH",
            "ECONNREFUSED",
            "EACCES",
            "EINVAL",
        ), host
    for host in ("10.1.2.3", "169.254.169.254", "192.0.2.1", "2001:db8::1"):
        assert function({"host": host, "port": 80}) in ("ENETUNREACH", "EHOSTUNREACH", "EADDRNOTAVAIL"), host
    assert function({"host": "example.com", "port": 80}) in ("EAI_AGAIN", "ENOTFOUND")


def test_failing_to_connect_is_an_ordinary_exception(server: Server, js: Function) -> None:
    assert js.error(f"fetch('http://127.0.0.1:{server.port}/impuls/health')") == "fetch failed"
    assert js("1") == 1


def test_the_loopback_interface_is_the_sandboxs_own(js: Function) -> None:
    source = """
        const server = require('http').createServer((request, response) => response.end('inside'));
        const listening = new Promise((go) => server.listen(0, '127.0.0.1', go));
        const ask = () => fetch('http://127.0.0.1:' + server.address().port).then((answer) => answer.text());
        listening.then(ask).then((text) => { server.close(); return [text, Object.keys(require('os').networkInterfaces())] })
    """
    assert js(source) == ["inside", ["lo"]]


def test_abstract_sockets_of_the_host_are_out_of_reach(js: Function) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0spinney-test-{os.getpid()}")
        listener.listen()
        path = f"'\\0spinney-test-{os.getpid()}'"
        source = (
            f"new Promise((go) => require('net').connect({{path: {path}}}, () => go('connected')).on('error', (e) => go(e.code)))"
        )
        assert js(source) in ("ECONNREFUSED", "ENOENT", "EACCES")


def test_at_most_256_processes(api: Api) -> None:
    function = api.python(FORK_BOMB, memory_mb=1024)
    count, error = function()
    assert error == 11  # EAGAIN
    assert 100 < count < 256
    assert function()[1] == 11


def test_privileges(js: Function) -> None:
    status = dict(
        line.split(":\t", 1)
        for line in js("require('fs').readFileSync('/proc/self/status', 'utf8')").splitlines()
        if ":\t" in line
    )
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_not_root_on_the_host(api: Api) -> None:
    """Seen from outside: the function gives its process a name that can be found again."""
    function = api.node("process.title = event; await new Promise((go) => setTimeout(go, 500))")
    name = new_name()
    with ThreadPoolExecutor() as pool:
        call = pool.submit(function, name)
        wait_until(lambda: find_processes(name), "the function runs")
        status = status_of(find_processes(name)[0])
        call.result()
    assert "0" not in status["Uid"].split() + status["Gid"].split()


def test_other_processes_are_invisible(api: Api) -> None:
    count = "return require('fs').readdirSync('/proc').filter((name) => /^\\d+$/.test(name)).length"
    functions = [api.node(count) for _ in range(3)]
    assert all(function() <= 3 for function in functions)


def test_the_memory_limit_holds_for_all_processes_together(api: Api) -> None:
    """Six children of 80 MB do not fit into 128 MB and what the runtime itself gets: the call fails, or some children do."""
    answer = api.python(CHILDREN, memory_mb=128).invoke()
    if "error" in answer:
        assert answer["error"] == "function exceeded its memory limit of 128 MB"
    else:
        assert answer["body"] * 80_000_000 < (128 + 64) << 20


@pytest.mark.parametrize("runtime", ["nodejs18", "nodejs20", "nodejs22", "python311"])
def test_a_hello_world_works_at_64_mb(api: Api, runtime: str) -> None:
    code = TRIVIAL if runtime.startswith("node") else "def handler(event, context): return 'hi'"
    function = api.function(code, runtime=runtime, memory_mb=64)
    assert [function() for _ in range(3)] == ["hi"] * 3


def test_memory_up_to_the_limit_can_be_used(api: Api) -> None:
    assert api.node("return Buffer.alloc(200_000_000, 1).length", memory_mb=256)() == 200_000_000
    assert api.python("def handler(event, context): return len(b'x' * 200_000_000)", memory_mb=256)() == 200_000_000
    grow = "const all = []; for (let n = 0; n < 15; n++) all.push(Array.from({length: 1e6}, (_, i) => i + n)); return all.length"
    assert api.node(grow, memory_mb=512)() == 15
