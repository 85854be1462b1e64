"""What a function on Deno may not do: neither layer lets it, Deno's flags or the sandbox, each alone (Fluxbase contract 3.6)."""

from __future__ import annotations

import asyncio
import json
import socket
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.internet import HOST, METADATA, PRIVATE, PUBLIC, RESOLVER, Internet, run

from spinney.drivers.oci import OciDriver, OciSettings
from spinney.model import Call, Function, Outcome, Rights, Version
from spinney.ports import Launch, Limits, Sandbox, SandboxSpec
from spinney.runtimes.deno import DenoRuntime
from spinney.testing.driver_suite import get, make_spec, opened

pytestmark = pytest.mark.anyio

RUNTIME = DenoRuntime()
NOTHING = Rights(net=False, env=False, read=False, write=False)
EVERYTHING = Rights(net=True, env=True, read=True, write=True)
BOTH, FLAGS, SANDBOX = "both layers", "the flags alone", "the sandbox alone"
TIMEOUT_S = 60.0

ATTEMPTS = """
const reach = (connecting, patience) => Promise.race([
    connecting.then(async (connection) => {
        const bytes = new Uint8Array(100);
        return new TextDecoder().decode(bytes.subarray(0, (await connection.read(bytes)) ?? 0));
    }),
    new Promise((_, no) => setTimeout(no, patience, new Error('timed out'))),
]);
const tcp = (hostname, port, patience = 2000) => reach(Deno.connect({ hostname, port }), patience);
const inWorker = (code, options = {}) => new Promise((ok, no) => {
    const text = `(async () => (${code}))().then((value) => postMessage([value]), (error) => postMessage(String(error)))`;
    const worker = new Worker(URL.createObjectURL(new Blob([text])), { type: 'module', ...options });
    worker.onmessage = ({ data }) => { worker.terminate(); typeof data === 'string' ? no(new Error(data)) : ok(data[0]) };
    worker.onerror = (event) => { event.preventDefault(); no(new Error(event.message)) };
});
const attempt = async (code) => {
    try {
        return { value: await eval(`(async () => (${code}))()`) ?? null };
    } catch (error) {
        return { error: `${error.name}: ${error.message}` };
    }
};
export default async (request) => {
    const attempts = Object.entries(await request.json());
    return Object.fromEntries(await Promise.all(attempts.map(async ([name, code]) => {
        const outcome = await attempt(code);
        console.log(name);
        return [name, outcome];
    })));
};
"""

READING = {
    "shadow": "Deno.readTextFileSync('/etc/shadow')",
    "shadow later": "await Deno.readTextFile('/etc/shadow')",
    "shadow by node": "(await import('node:fs')).readFileSync('/etc/shadow', 'utf8')",
    "shadow fetched": "await (await fetch('file:///etc/shadow')).text()",
    "shadow copied": "Deno.copyFileSync('/etc/shadow', '/tmp/copy')",
    "shadow required": "(await import('node:module')).createRequire('file:///tmp/')('/etc/shadow')",
    "shadow imported": "await import('file:///etc/shadow')",
    "shadow as text": "await import('file:///etc/shadow', { with: { type: 'text' } })",
    "shadow as a database": "new (await import('node:sqlite')).DatabaseSync('/etc/shadow').prepare('select 1')",
    "root's home": "[...Deno.readDirSync('/root')]",
    "homes": "[...Deno.readDirSync('/home')]",
    "kernel": "Deno.openSync('/proc/kcore').stat()",
    "init's root": "[...Deno.readDirSync('/proc/1/root/root')]",
    "own root": "Deno.readTextFileSync('/proc/self/root/etc/shadow')",
    "init's memory": "Deno.openSync('/proc/1/mem')",
    "links": "(Deno.symlinkSync('/etc/shadow', '/tmp/link'), Deno.readTextFileSync('/tmp/link'))",
    "hard links": "(Deno.linkSync('/etc/shadow', '/tmp/hard'), Deno.readTextFileSync('/tmp/hard'))",
    "in a Worker": "await inWorker(`Deno.readTextFileSync('/etc/shadow')`)",
    "a file as a Worker": "await new Promise((ok, no) => { const w = new Worker('file:///etc/shadow', { type: 'module' });"
    " w.onmessage = ok; w.onerror = (e) => { e.preventDefault(); no(e) } })",
    "by WebAssembly": "new (await import('node:wasi')).WASI({ version: 'preview1', preopens: { '/': '/root' } })",
}
WRITING = {
    f"write {path}": f"Deno.writeTextFileSync('{path}', 'x')"
    for path in ("/tmp/x", "x", "/var/task/x", "/var/tmp/x", "/dev/x", "/etc/x", "/usr/x", "/run/x", "/opt/spinney/x", "/x")
} | {
    "shared memory": "Deno.writeTextFileSync('/dev/shm/x', 'x')",
    "kernel settings": "Deno.writeTextFileSync('/proc/sys/kernel/core_pattern', '|/bin/sh')",
    "temporary file": "Deno.makeTempFileSync()",
    "directory": "Deno.mkdirSync('/tmp/d')",
    "database": "new (await import('node:sqlite')).DatabaseSync('/tmp/x.db').exec('create table t (a)')",
    "cache": "await caches.open('x')",
    "write in a Worker": "await inWorker(`Deno.writeTextFileSync('/tmp/x', 'x')`)",
}
CONNECTING = {
    "public": f"await tcp('{PUBLIC}', 8000)",
    "private": f"await tcp('{PRIVATE}', 8000)",
    "metadata": f"await tcp('{METADATA}', 8000)",
    "server": "await tcp(HOST_ADDRESS, SERVER_PORT)",
    "server's loopback": "await tcp('127.0.0.1', SERVER_PORT)",
    "server by fetch": "await fetch(`http://${HOST_ADDRESS}:${SERVER_PORT}/`, { signal: AbortSignal.timeout(2000) })",
    "name": "await Deno.resolveDns('11-22-33-2.test', 'A')",
    "name by node": "await (await import('node:dns')).promises.lookup('11-22-33-2.test')",
    "node:net": f"await new Promise(async (ok, no) => (await import('node:net')).connect(8000, '{PUBLIC}')"
    ".on('data', (d) => ok(String(d))).on('error', no))",
    "web socket": f"await new Promise((ok, no) => {{ const s = new WebSocket('ws://{PUBLIC}:8000');"
    " s.onopen = ok; s.onerror = no })",
    "connect in a Worker": f"await inWorker(`Deno.connect({{ hostname: '{PUBLIC}', port: 8000 }}).then(() => 1)`)",
    "module": "await import(`http://${HOST_ADDRESS}:${SERVER_PORT}/x.js`)",
    "unix socket": "await reach(Deno.connect({ transport: 'unix', path: '/run/dbus/system_bus_socket' }), 2000)",
}
EVER_REFUSED = {
    "passwd": "Deno.readTextFileSync('/etc/passwd')",
    "root directory": "[...Deno.readDirSync('/')]",
    "own directory": "[...Deno.readDirSync('.')]",
    "/tmp": "[...Deno.readDirSync('/tmp')]",
    "environ": "Deno.readTextFileSync('/proc/self/environ')",
    "init's environ": "Deno.readTextFileSync('/proc/1/environ')",
    "the channel": "Deno.openSync('/proc/self/fd/3', { write: true })",
    "the guest's code": "Deno.readTextFileSync(new URL(Deno.mainModule))",
    "variable": "Deno.env.get('PATH')",
    "variables": "Deno.env.toObject()",
    "new variable": "Deno.env.set('NEW', 'x')",
    "variable by node": "process.env.PATH",
    "variable in a Worker": "await inWorker(`Deno.env.get('PATH')`)",
    "program": "new Deno.Command('/usr/bin/id').outputSync()",
    "program by node": "(await import('node:child_process')).execFileSync('/usr/bin/id')",
    "library": "Deno.dlopen('libc.so.6', { getpid: { parameters: [], result: 'i32' } })",
    "library in a Worker": "await inWorker(`Deno.dlopen('libc.so.6', {})`)",
    "addon": "process.dlopen({ exports: {} }, '/usr/lib/x86_64-linux-gnu/libc.so.6')",
    "addon below": "await inWorker(`Deno[Deno.internal].core.ops.op_napi_open('libc.so.6', globalThis, {}, () => 0, () => 0)`)",
    "pointer": "Deno.UnsafePointer.create(4096n)",
    "extension": "new (await import('node:sqlite')).DatabaseSync(':memory:', { allowExtension: true }).loadExtension('x')",
    "debugger": "new (await import('node:inspector')).Session().connect()",
    "host name": "Deno.hostname()",
    "user": "Deno.uid()",
    "kernel version": "(await import('node:os')).release()",
    "interfaces": "Deno.networkInterfaces()",
    "listener": "Deno.listen({ port: 8000 })",
    "server": "Deno.serve({ port: 8000 }, () => new Response())",
    "signal": "Deno.kill(1, 'SIGKILL')",
    "greedy Worker": "await inWorker('1', { deno: { permissions: { read: true } } })",
    "asking": "(await Deno.permissions.request({ name: 'ffi' })).state === 'granted' || Deno.dlopen('libc.so.6', {})",
}
LIKE_NOT_CAPABLE = ("NotCapable", "Requires ", "Operation not permitted", "EPERM", "--no-remote", "--allow-")


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
def internet() -> Iterator[Internet]:
    internet = Internet()
    yield internet
    internet.close()


@pytest.fixture(scope="module")
async def driver(internet: Internet) -> AsyncIterator[OciDriver]:
    driver = OciDriver(Path("/run/spinney", uuid.uuid4().hex), OciSettings(nameservers=(RESOLVER,)))
    yield driver
    await driver.close()


@pytest.fixture(scope="module")
def server_port() -> Iterator[int]:
    """A listener of the host's, at all its addresses, as Spinney's own may be."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        yield server.getsockname()[1]


def without_flags(launch: Launch) -> Launch:
    """The same, with every permission of Deno's granted."""
    kept = [flag for flag in launch.argv if not flag.startswith("--allow-") and flag != "--no-prompt"]
    return msgspec.structs.replace(launch, argv=(*kept[:2], "--allow-all", *kept[2:]))


@asynccontextmanager
async def function(driver: OciDriver, rights: Rights, layers: str = BOTH, source: str = ATTEMPTS) -> AsyncIterator[Sandbox]:
    """A sandbox in which a function runs with these rights, kept by these layers; the other one lets everything pass."""
    launch = RUNTIME.launch("deno", rights)
    if layers == SANDBOX:
        launch = without_flags(launch)
    limits = Limits(memory_mb=256)
    spec = SandboxSpec(id=uuid.uuid4().hex, launch=launch, limits=limits, rights=EVERYTHING if layers == FLAGS else rights)
    owner = Function(id="f", account_id="a", dialect="d", name="f", version_id="v", created_at=0.0, updated_at=0.0)
    version = Version(
        id="v", function_id="f", number=1, runtime="deno", handler="", source=source, created_at=0.0, memory_mb=256,
        environment={"FLUXBASE_URL": "http://x", "API_KEY": "secret"},
    )  # fmt: skip
    async with opened(driver, spec) as sandbox:
        sandbox.load(RUNTIME.load(owner, version, limits))
        yield sandbox


async def attempt(sandbox: Sandbox, attempts: dict[str, str], **names: Any) -> dict[str, Any]:
    """What became of each: ``{"value": ...}`` or ``{"error": ...}``; ``names`` are replaced in the code by values.

    For once: what is still under way afterwards makes the sandbox unfit.
    """
    for name, replacement in names.items():
        attempts = {key: code.replace(name, json.dumps(replacement)) for key, code in attempts.items()}
    call = Call("id", json.dumps(attempts).encode(), TIMEOUT_S)
    reply = await sandbox.call(call, asyncio.get_running_loop().time() + TIMEOUT_S)
    assert reply.outcome is Outcome.OK, reply
    return dict(json.loads(reply.body))


def succeeded(answers: dict[str, Any]) -> dict[str, Any]:
    return {name: answer["value"] for name, answer in answers.items() if "error" not in answer}


@pytest.mark.parametrize("layers", [BOTH, FLAGS, SANDBOX])
async def test_nothing_of_the_host_is_read_and_nothing_written(driver: OciDriver, layers: str) -> None:
    async with function(driver, NOTHING, layers) as sandbox:
        answers = await attempt(sandbox, READING | WRITING)
        assert succeeded(answers) == {}
        if layers != SANDBOX:
            odd = {name: a["error"] for name, a in answers.items() if not any(word in a["error"] for word in LIKE_NOT_CAPABLE)}
            assert odd.keys() <= {"a file as a Worker", "cache", "by WebAssembly"}, odd


@pytest.mark.parametrize("layers", [BOTH, FLAGS, SANDBOX])
async def test_nothing_is_reached_without_the_right_to(driver: OciDriver, server_port: int, layers: str) -> None:
    async with function(driver, NOTHING, layers) as sandbox:
        answers = await attempt(sandbox, CONNECTING, HOST_ADDRESS=HOST, SERVER_PORT=server_port)
        assert succeeded(answers) == {}
        if layers != SANDBOX:
            odd = {name: a["error"] for name, a in answers.items() if not any(word in a["error"] for word in LIKE_NOT_CAPABLE)}
            assert odd.keys() <= {"web socket", "name"}, odd


@pytest.mark.parametrize("layers", [BOTH, FLAGS])
async def test_the_flags_refuse_what_is_harmless_too(driver: OciDriver, layers: str) -> None:
    async with function(driver, NOTHING, layers) as sandbox:
        answers = await attempt(sandbox, EVER_REFUSED)
        assert succeeded(answers) == {}
        odd = {name: a["error"] for name, a in answers.items() if not any(word in a["error"] for word in LIKE_NOT_CAPABLE)}
        assert odd.keys() <= {"addon below"}, odd


async def test_never_granted_is_never_granted(driver: OciDriver) -> None:
    never = ("program", "program by node", "library", "library in a Worker", "addon", "pointer", "extension", "debugger",
             "host name", "user", "kernel version", "interfaces", "signal", "greedy Worker", "asking", "environ", "the channel",
             "passwd", "root directory", "init's environ", "the guest's code")  # fmt: skip
    async with function(driver, EVERYTHING) as sandbox:
        query = "['net', 'env', 'read', 'write', 'run', 'ffi', 'sys'].map((name) => Deno.permissions.querySync({ name }).state)"
        attempts = {name: EVER_REFUSED[name] for name in never} | READING | {"states": query}
        answers = succeeded(await attempt(sandbox, attempts))
        states = answers.pop("states")
        assert answers.keys() <= {"greedy Worker"}, "a Worker may have what the function has"
        assert states[:2] == ["granted", "granted"] and "granted" not in states[2:]


async def test_the_sandbox_alone_hides_what_there_is(driver: OciDriver) -> None:
    async with function(driver, NOTHING, SANDBOX) as sandbox:
        answers = succeeded(await attempt(sandbox, EVER_REFUSED))
        assert answers["own directory"] == answers["/tmp"] == []
        assert answers["variables"].keys() == {"FLUXBASE_URL", "FLUXBASE_EXECUTION_ID"}
        assert answers["variable"] is answers["variable by node"] is answers["variable in a Worker"] is None
        assert [line.split(":")[0] for line in answers["passwd"].splitlines()] == ["root", "sandbox"]
        environ = answers.get("environ", "") + answers.get("init's environ", "")
        assert "API_KEY" not in environ and "PATH" not in environ
        assert answers["user"] == 1000 and answers["host name"] == "sandbox"
        assert not {"library", "addon", "extension", "the channel"} & answers.keys()


async def test_the_sandbox_alone_stops_other_programs(driver: OciDriver) -> None:
    commands = (
        "cat /etc/shadow", "ls /root", "ls /home", "cat /proc/1/root/etc/shadow", "cat /proc/kcore", "cat /proc/1/mem",
        "echo x > /tmp/x", "echo x > x", "echo x > /dev/shm/x", "echo x > /var/task/x", "echo x > /dev/x", "mkdir /run/x",
        "echo x > /proc/sys/kernel/core_pattern", "env | grep -v -e ^FLUXBASE_ -e ^PWD= -e ^SHLVL= -e ^_= -e ^OLDPWD=",
        "ls /tmp/* /var/task/* 2>/dev/null", f"timeout 2 bash -c 'echo > /dev/tcp/{PUBLIC}/8000'",
        "kill -9 1 && kill -0 1 && false", "mount -t tmpfs x /tmp", "unshare -r true", "cat /etc/resolv.conf",
    )  # fmt: skip
    shell = "new Deno.Command('/bin/sh', { args: ['-c', %s] }).outputSync()"
    shown = "((o) => o.success && new TextDecoder().decode(o.stdout))"
    async with function(driver, NOTHING, SANDBOX) as sandbox:
        attempts = {command: f"{shown}({shell % json.dumps(command)})" for command in ("id -u", *commands)}
        answers = succeeded(await attempt(sandbox, attempts))
        assert answers.pop("id -u") == "1000\n"
        assert answers == dict.fromkeys(commands, False)


@pytest.mark.parametrize("layers", [BOTH, FLAGS, SANDBOX])
@pytest.mark.parametrize("right", ["read", "write"])
async def test_one_right_does_not_bring_the_other(driver: OciDriver, right: str, layers: str) -> None:
    rights = msgspec.structs.replace(NOTHING, **{right: True})
    steps = {
        "write": "Deno.writeTextFileSync('/tmp/x', 'y') ?? Deno.writeTextFileSync('z', 'y') ?? 'written'",
        "list": "[...Deno.readDirSync('/tmp')].length + [...Deno.readDirSync('.')].length",
        "elsewhere": "Deno.writeTextFileSync('/var/task/x', 'y')",
        "above": "Deno.writeTextFileSync('../x', 'y')",
    }
    async with function(driver, rights, layers) as sandbox:
        answers = succeeded(await attempt(sandbox, steps))
        if right == "read":
            assert answers == {"list": 0}
        else:
            assert answers.pop("write") == "written"
            assert answers == {} or (layers == SANDBOX and answers.keys() == {"list"}), "its own files at most"


async def test_what_is_granted_works(driver: OciDriver) -> None:
    steps = {
        "files": """await (async () => {
            await Deno.writeTextFile('x', 'y');
            await Deno.mkdir('/tmp/d');
            await Deno.rename('/tmp/x', '/tmp/d/x');
            (await import('node:fs')).appendFileSync('d/x', 'z');
            return [await Deno.readTextFile('/tmp/d/x'), Deno.cwd()];
        })()""",
        "variables": "(Deno.env.set('A', '1'), [Deno.env.get('A'), Deno.env.get('API_KEY'), Deno.env.has('PATH')])",
    }
    async with function(driver, EVERYTHING) as sandbox:
        answers = await attempt(sandbox, steps)
        assert answers["files"] == {"value": ["yz", "/tmp"]}
        assert answers["variables"] == {"value": ["1", "secret", True]}


async def test_links_do_not_lead_out(driver: OciDriver) -> None:
    steps = {
        "symbolic": "(Deno.symlinkSync('/etc/passwd', '/tmp/a'), Deno.readTextFileSync('/tmp/a'))",
        "by node": "(await import('node:fs')).symlinkSync('/etc/passwd', '/tmp/b') ?? Deno.readTextFileSync('/tmp/b')",
        "relative": "(Deno.symlinkSync('../etc/passwd', 'c'), Deno.readTextFileSync('c'))",
        "hard": "(Deno.linkSync('/etc/passwd', '/tmp/d'), Deno.readTextFileSync('/tmp/d'))",
        "directory": "(Deno.symlinkSync('/proc/self', '/tmp/e'), Deno.readTextFileSync('/tmp/e/environ'))",
        "dots": "Deno.readTextFileSync('/tmp/../etc/passwd')",
        "dots in Node": "(await import('node:fs')).readFileSync('/tmp/../proc/self/../self/environ', 'utf8')",
        "URL": "Deno.readTextFileSync(new URL('file:///tmp/..%2fetc/passwd'))",
        "descriptor": "(() => { const f = Deno.openSync('/tmp', { read: true }); return Deno.readTextFileSync('/dev/fd/9') })()",
    }
    async with function(driver, EVERYTHING) as sandbox:
        answers = await attempt(sandbox, steps)
        assert succeeded(answers) == {}


@pytest.mark.parametrize("layers", [BOTH, SANDBOX])
async def test_the_network_is_the_public_one_only(driver: OciDriver, internet: Internet, server_port: int, layers: str) -> None:
    hosts = [line.split()[3].split("/")[0] for line in run("ip", "-4", "-o", "address").splitlines()]
    listen = """
import socket, sys
probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
probe.connect(("11.22.33.2", 9))
sys.modules["kept"] = socket.create_server(("", 8000))
result = probe.getsockname()[0]
"""
    async with (
        opened(driver, make_spec(network=True)) as other,
        function(driver, Rights(True, True, False, False), layers) as sandbox,
    ):
        neighbour = await get(other, "python", code=listen)
        refused = {f"{host} {port}": f"await tcp('{host}', {port})" for host in hosts for port in (server_port,)}
        refused |= {
            host: f"await tcp('{host}', 8000)" for host in (PRIVATE, METADATA, neighbour, "100.64.0.1", "192.168.0.1", "::1")
        }
        names = {f"{host.replace('.', '-')}.test": host for host in (HOST, PRIVATE, METADATA, neighbour, "127.0.0.1")}
        refused |= {
            name: f"await tcp('{name}', {server_port if host in (HOST, '127.0.0.1') else 8000})" for name, host in names.items()
        }
        refused |= {
            "metadata by fetch": f"await fetch('http://{METADATA}:8000/', {{ signal: AbortSignal.timeout(2000) }})",
            "resolver's other port": f"await tcp('{RESOLVER}', 8000)",
            "mapped": f"await tcp('::ffff:{METADATA}', 8000)",
            "decimal": "await tcp('2852039166', 8000)",
        }
        allowed = {
            "resolved": "await Deno.resolveDns('169-254-169-254.test', 'A')",
            "public": f"await tcp('{PUBLIC}', 8000, 30000)",
            "public by name": "await tcp('11-22-33-2.test', 8000, 30000)",
        }
        answers = await attempt(sandbox, allowed)
        assert succeeded(answers) == {"resolved": [METADATA], "public": HOST, "public by name": HOST}, answers
        assert succeeded(await attempt(sandbox, refused)) == {}


async def test_the_code_is_in_no_file(driver: OciDriver) -> None:
    source = f"const marker = 'only in the code';\n{ATTEMPTS}"
    search = """(() => {
        const found = [];
        const look = (path) => {
            for (const { name, isFile, isDirectory } of Deno.readDirSync(path)) {
                const inner = `${path}/${name}`;
                try {
                    if (isDirectory) look(inner);
                        else if (!isFile || Deno.statSync(inner).size > 1 << 20) continue;
                    else if (Deno.readTextFileSync(inner).includes('only in ' + 'the code')) found.push(inner);
                } catch { /* not even that */ }
            }
        };
        ['/var', '/tmp', '/run', '/opt', '/etc'].forEach(look);
        return found;
    })()"""
    async with function(driver, EVERYTHING, SANDBOX, source) as sandbox:
        assert await attempt(sandbox, {"search": search}) == {"search": {"value": []}}


async def test_sandboxes_share_no_storage_and_no_channel(driver: OciDriver) -> None:
    source = """
        const heard = [];
        const channel = new BroadcastChannel('x');
        channel.onmessage = ({ data }) => heard.push(data);
        export default async (request) => {
            const seen = [localStorage.getItem('k'), sessionStorage.getItem('k'), globalThis.k ?? null, heard.length];
            localStorage.setItem('k', 'v');
            sessionStorage.setItem('k', 'v');
            globalThis.k = 'v';
            channel.postMessage('v');
            await new Promise((go) => setTimeout(go, 20));
            return seen;
        };
    """
    async with function(driver, EVERYTHING, source=source) as one, function(driver, EVERYTHING, source=source) as other:
        for sandbox in (one, other):
            call = Call("id", b"", TIMEOUT_S)
            reply = await sandbox.call(call, asyncio.get_running_loop().time() + TIMEOUT_S)
            assert (reply.outcome, json.loads(reply.body)) == (Outcome.OK, [None, None, None, 0])
