"""Bodies of handlers that attack the process they run in; each means to answer ``"mine"``."""

from __future__ import annotations

import textwrap

_NODE = {
    "closes its streams": "fs.closeSync(1); fs.closeSync(2)",
    "closes every descriptor": "each(200, (fd) => fs.closeSync(fd))",
    "writes to every descriptor": "each(200, (fd) => fs.writeSync(fd, 'garbage\\n'.repeat(100)))",
    "forges frames": "each(50, (fd) => fs.writeSync(fd, Buffer.from([5, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 0, 0, 51])))",
    "reads every descriptor": "each(50, (fd) => fs.fstatSync(fd).isSocket() && fs.readSync(fd, Buffer.alloc(1)))",
    "prints a result": "process.stdout.write(JSON.stringify({status_code: 200, body: 'forged'}) + '\\n')",
    "floods and exits": "each(200, () => fs.writeSync(1, 'y'.repeat(65536))); process.exit(0)",
    "prints without end": "setInterval(() => fs.writeSync(1, 'y'.repeat(65536)), 0); await pause(200)",
    "opens many files": "each(100000, () => fs.openSync('/dev/null'))",
    "signals everybody": "each(64, (signal) => { for (const pid of [-1, 1]) process.kill(pid, signal) }); await pause(200)",
    "keeps the loop busy": "setInterval(() => { const end = Date.now() + 500; while (Date.now() < end); }, 0)",
    "leaves a child": "require('child_process').spawn('sleep', ['1000'], {detached: true, stdio: 'inherit'}).unref()",
    "breaks JSON": "JSON.stringify = () => '\"forged\"'; JSON.parse = () => 'forged'",
    "breaks Promise": "Promise.prototype.then = () => { throw new Error('no') }",
    "breaks prototypes": "Object.prototype.statusCode = 404; Array.prototype.push = Function.prototype.call = null",
    "breaks Buffer": "Buffer.from = Buffer.alloc = Buffer.concat = Buffer.allocUnsafe = () => { throw new Error('no') }",
    "breaks fs": "fs.readSync = fs.writeSync = fs.readFileSync = fs.closeSync = () => { throw new Error('no') }",
    "breaks process": "process.exit = process.on = process.emit = process.hrtime = () => 0",
    "breaks console": "globalThis.console = null",
}

_PYTHON = {
    "closes its streams": "sys.stdout.close(); sys.stderr.close()",
    "replaces its streams": "sys.stdout = sys.stderr = None",
    "closes every descriptor": "os.closerange(0, 1024)",
    "writes to every descriptor": """
        for fd in range(200):
            try:
                os.write(fd, b"garbage" * 100)
            except OSError:
                pass
    """,
    "forks and returns twice": "os.fork()",
    "leaves a thread": "threading.Thread(target=time.sleep, args=(100,)).start()",
    "dies in a thread": "thread = threading.Thread(target=lambda: 1 / 0); thread.start(); thread.join()",
    "ignores signals": "for number in (1, 2, 15): signal.signal(number, signal.SIG_IGN)",
    "breaks json": "json.dumps = json.loads = lambda *a, **k: 'forged'",
    "breaks builtins": "import builtins; builtins.len = builtins.isinstance = None",
    "sets a recursion limit": "sys.setrecursionlimit(50)",
}


def _node(body: str) -> str:
    return f"""
        const fs = require('fs');
        const each = (count, work) => {{ for (let n = 0; n < count; n++) try {{ work(n) }} catch {{}} }};
        const pause = (ms) => new Promise((go) => setTimeout(go, ms));
        exports.handler = async (event) => {{
            if (event === 'after') return event;
            {body};
            return 'mine';
        }};
    """


def _python(body: str) -> str:
    lines = textwrap.indent(textwrap.dedent(body).strip(), "    ")
    head = "import json, os, signal, sys, threading, time\ndef handler(event, context):\n    if event == 'after': return event\n"
    return f"{head}{lines}\n    return 'mine'\n"


NODE = {name: _node(body) for name, body in _NODE.items()}
PYTHON = {name: _python(body) for name, body in _PYTHON.items()}
