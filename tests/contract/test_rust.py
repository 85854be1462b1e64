"""Rust for real: compiled and prepared in sandboxes, and run where what comes out is what matters."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator

import pytest
from tests.lab import Lab, Module, open_lab, told

from spinney.model import Outcome
from spinney.ports import Compiled
from spinney.runtimes.rust import RustCompiler

pytestmark = pytest.mark.anyio

ECHO = "pub fn handle(input: String) -> String { input }\n"
NO_HANDLE = "Module must export pub fn handle(input: String) -> String"
OTHER_FILES = "error: module.rs cannot include other files"

TOOL = r"""
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::Write;

#[derive(Deserialize)]
struct Order { what: String, #[serde(default)] list: Vec<i64> }

#[derive(Serialize)]
struct Sum<'a> { sum: i64, what: &'a str }

static mut CALLS: u32 = 0;

fn recurse(n: u64) -> u64 { if n == u64::MAX { 0 } else { recurse(n + 1).wrapping_mul(n) + 1 } }

fn recurse_far(n: u64) -> u64 {
    let mut frame = [n; 4096];
    unsafe { std::ptr::write_volatile(&mut frame[3], n) };
    recurse_far(n + frame[3]) + frame[7]
}

fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

pub fn handle(input: String) -> Result<String, String> {
    let order: Order = serde_json::from_str(&input).map_err(|error| error.to_string())?;
    println!("out {}", order.what);
    eprintln!("err é\nsecond");
    print!("no end");
    match order.what.as_str() {
        "sum" => Ok(serde_json::to_string(&Sum { sum: order.list.iter().sum(), what: "🌍 \"é\"" }).unwrap()),
        "value" => Ok(serde_json::from_str::<serde_json::Value>(&input).unwrap()["any"].to_string()),
        "count" => unsafe { CALLS += 1; Ok(CALLS.to_string()) },
        "seed" => Ok(format!("\"{}\"", seed())),
        "time" => {
            let start = std::time::Instant::now();
            std::thread::sleep(std::time::Duration::from_millis(3));
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            Ok(format!("[{},{}]", now.as_secs(), start.elapsed().as_millis() >= 3))
        }
        "around" => {
            let file = std::fs::read_to_string("/etc/passwd").is_err() && std::fs::write("x", "y").is_err();
            let net = std::net::TcpStream::connect("127.0.0.1:80").is_err();
            let thread = std::thread::Builder::new().spawn(|| {}).is_err();
            let variables: HashMap<String, String> = std::env::vars().collect();
            Ok(format!("[{},{},{},{},{}]", file, net, thread, variables.len(), std::env::args().count()))
        }
        "json" => Ok("{'no': json}".to_string()),
        "empty" => Err(String::new()),
        "fail" => Err("an: error\nin two lines".to_string()),
        "panic" => panic!("boom: {}", order.list.len()),
        "plain" => panic!("plain"),
        "any" => std::panic::panic_any(7),
        "unwrap" => Err::<String, _>("inner").unwrap().parse().map_err(|_| String::new()),
        "index" => Ok(order.list[order.what.len()].to_string()),
        "divide" => Ok((1 / order.list.len()).to_string()),
        "stack" => Ok(recurse(1).to_string()),
        "far" => Ok(recurse_far(1).to_string()),
        "memory" => { let mut all = Vec::new(); loop { all.push(vec![1u8; 1 << 20]); } }
        "loop" => loop { std::io::stdout().flush().unwrap(); },
        "exit" => std::process::exit(3),
        "abort" => std::process::abort(),
        _ => Err("what?".to_string()),
    }
}
"""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def lab() -> AsyncIterator[Lab]:
    async with open_lab(RustCompiler()) as lab:
        yield lab


@pytest.fixture(scope="module")
async def tool(lab: Lab) -> AsyncIterator[Module]:
    prepared = await lab.prepare(TOOL)
    assert lab.compiler.check(prepared.facts, 128) is None
    async with lab.running(prepared.executable) as module:
        yield module


def order(what: str, **more: object) -> str:
    return json.dumps({"what": what, **more})


# -- what works --------------------------------------------------------------------------------------------------------


async def test_the_sample(lab: Lab) -> None:
    assert await lab.check(lab.compiler.sample) is None
    text = '{"a":5,"t":"é🌍\\u0000"}'
    assert await lab.run(lab.compiler.sample, text, "{}", '{"a":"%s"}' % ("x" * 300_000)) == [
        text,
        "{}",
        '{"a":"%s"}' % ("x" * 300_000),
    ]


async def test_serde(tool: Module) -> None:
    assert json.loads(told(await tool(order("sum", list=[5, 3])))) == {"sum": 8, "what": '🌍 "é"'}
    numbers = [0.1, 123456789.12345679, 1e300, 2.2250738585072014e-308, 12345678901234567890, -7]
    assert json.loads(told(await tool(order("value", any=numbers)))) == numbers


async def test_each_call_begins_anew(tool: Module) -> None:
    assert [told(await tool(order("count"))) for _ in range(3)] == ["1", "1", "1"]
    seeds = {told(await tool(order("seed"))) for _ in range(4)}
    assert len(seeds) == 4


async def test_what_is_around_a_function(tool: Module) -> None:
    assert json.loads(told(await tool(order("around")))) == [True, True, True, 0, 0]
    seconds, slept = json.loads(told(await tool(order("time"))))
    assert seconds > 1_700_000_000
    assert slept


async def test_output_is_the_log(tool: Module) -> None:
    for what in ("sum", "fail", "panic", "any"):
        reply = await tool(order(what))
        assert [(line.text, line.level) for line in reply.logs] == [
            (f"out {what}", "info"),
            ("err é", "warn"),
            ("second", "warn"),
            ("no end", "info"),
        ]


# -- failures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("fail", "Runtime error: an: error\nin two lines"),
        ("empty", "Runtime error: abort"),
        ("panic", "Runtime error: boom: 0"),
        ("plain", "Runtime error: plain"),
        ("any", "Runtime error: panic"),
        ("unwrap", 'Runtime error: called `Result::unwrap()` on an `Err` value: "inner"'),
        ("index", "Runtime error: index out of bounds: the len is 0 but the index is 5"),
        ("divide", "Runtime error: attempt to divide by zero"),
        ("stack", "WASM trap: call stack exhausted"),
        ("far", "WASM trap: call stack exhausted"),
        ("memory", "Memory limit exceeded: 128 MiB"),
        ("exit", "Runtime error: exit status 3"),
        ("abort", "WASM trap: unreachable"),
        ("json", "Function returned invalid JSON"),
    ],
)
async def test_failures(tool: Module, what: str, message: str) -> None:
    reply = await tool(order(what))
    assert (reply.outcome, reply.message, reply.reusable) == (Outcome.ERROR, message, True)


async def test_time(tool: Module) -> None:
    reply = await tool(order("loop"), timeout_s=0.3)
    assert (reply.message, reply.reusable) == ("Execution timed out after 0.3 seconds", True)


# -- what does not compile ---------------------------------------------------------------------------------------------


async def test_diagnostics(lab: Lab) -> None:
    text = await lab.error("pub fn handle(input: String) -> String {\n    let unused = 1;\n    missing\n}\n")
    assert text.startswith("error[E0425]: cannot find value `missing` in this scope\n --> module.rs:3:5\n")
    assert "unused" not in text
    assert "\x1b" not in text


async def test_diagnostics_tell_no_path(lab: Lab) -> None:
    source = """
        use serde::Serialize;
        struct Inner(std::rc::Rc<i32>);
        #[derive(Serialize)] struct Outer { inner: Inner }
        pub fn handle(input: String) -> String {
            let inner = Inner(std::rc::Rc::new(1));
            std::thread::spawn(move || inner.0);
            input
        }
    """
    text = await lab.error(source)
    assert "the trait bound `Inner: Serialize` is not satisfied" in text
    assert re.search(r"--> serde-1\.\S+/src/ser/mod\.rs:\d", text)
    assert not re.findall(r"(?<![\w.])/(?:usr|opt|tmp|var|root|work|build)\S*", text)


@pytest.mark.parametrize(
    "source",
    [
        "fn handle(input: String) -> String { input }",
        "pub fn other(input: String) -> String { input }",
        "pub fn handle() -> String { String::new() }",
        "pub fn handle(a: i32, b: i32) -> i32 { a + b }",
        "pub fn handle(input: &str) -> String { input.to_string() }",
        "pub fn handle(input: String) -> Result<String, std::fmt::Error> { Ok(input) }",
        "pub static handle: i32 = 1;",
        "",
        "\ufeff",
    ],
)
async def test_sources_without_a_handler(lab: Lab, source: str) -> None:
    assert await lab.error(source) == NO_HANDLE


@pytest.mark.parametrize(
    "source", ["\0", "}", "\ud800", "pub fn handle(", "#![no_core]", "#![feature(asm)]" + ECHO, "use rand::Rng;" + ECHO]
)
async def test_sources_that_make_no_sense(lab: Lab, source: str) -> None:
    assert "module.rs:1" in await lab.error(source)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            'extern "C" { fn mystery(); }' + ECHO.replace("input }", "unsafe { mystery() }; input }"),
            "Unsupported import env.mystery",
        ),
        (
            '#[link(wasm_import_module = "wasi_snapshot_preview1")] extern "C" { fn sock_open(a: i32) -> i32; }'
            + ECHO.replace("input }", "unsafe { sock_open(1) }; input }"),
            "Unsupported import wasi_snapshot_preview1.sock_open",
        ),
        (
            '#[link(wasm_import_module = "spinney")] extern "C" { #[link_name = "abort"] fn end(a: i64); }'
            + ECHO.replace("input }", "unsafe { end(1) }; input }"),
            "Unsupported import spinney.abort",
        ),
    ],
)
async def test_what_a_module_must_be_like(lab: Lab, source: str, message: str) -> None:
    assert await lab.check(source) == message


async def test_a_module_that_needs_too_much_memory(lab: Lab) -> None:
    prepared = await lab.prepare(ECHO)
    assert lab.compiler.check(prepared.facts, 16) is None
    assert lab.compiler.check(prepared.facts, 8) == "Module needs more memory than the limit of 8 MiB"


async def test_a_name_of_the_bridge_is_taken(lab: Lab) -> None:
    text = await lab.error('#[no_mangle] pub extern "C" fn spinney_alloc(size: usize) -> usize { size }\n' + ECHO)
    assert text == "error: duplicate symbol: spinney_alloc"


# -- hostile sources ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        'const TEXT: &str = include_str!("/etc/passwd");',
        'const BYTES: &[u8] = include_bytes!("/proc/self/environ");',
        'include!("/etc/passwd");',
        'include!("../../../../../../usr/share/cargo/registry/itoa-1.0.1/src/lib.rs");',
        '#[path = "/etc/hostname"] mod other;',
        'fn f() { include!("/opt/spinney/guests/compiler/bridge.rs") }',
    ],
)
async def test_no_file_but_the_source_is_read(lab: Lab, source: str) -> None:
    assert await lab.error(f"{source}\n{ECHO}") == OTHER_FILES


async def test_the_compilers_environment_says_nothing(lab: Lab) -> None:
    source = """
        pub fn handle(_: String) -> String {
            format!("{:?}", [env!("PATH"), env!("HOME"), option_env!("SPINNEY_ADMIN_KEY").unwrap_or("")])
        }
    """
    (answer,) = await lab.run(source, "{}")
    path, home, key = json.loads(answer)
    assert (path, key) == ("/usr/bin:/bin", "")
    assert home.startswith("/tmp/")


async def test_macros_of_a_source_are_not_run(lab: Lab) -> None:
    macro = "#[proc_macro] pub fn evil(_: proc_macro::TokenStream) -> proc_macro::TokenStream { std::process::exit(0) }"
    text = await lab.error(f'#![crate_type = "proc-macro"]\nextern crate proc_macro;\n{macro}\n{ECHO}')
    assert "only usable with crates of the `proc-macro` crate type" in text


async def test_a_compiler_that_crashes_is_not_the_end(lab: Lab) -> None:
    reply = await lab.reply(ECHO.replace("input }", f"let x = {'(' * 100_000}1{')' * 100_000}; input }}"))
    assert (reply.outcome, reply.reusable) == (Outcome.OK, True)
    assert lab.compiler.result(reply) == Compiled(error="Compiler crashed: SIGSEGV", lasting=False)
    assert (await lab.compile(ECHO)).module


async def test_memory_runs_out(lab: Lab) -> None:
    macro = "macro_rules! m { ($($t:tt)*) => { m!($($t)* $($t)*) } } m!(a b);\n"
    reply = await lab.starve(macro + ECHO, memory_mb=200)
    assert reply.outcome is Outcome.OUT_OF_MEMORY


async def test_nothing_is_carried_over(lab: Lab) -> None:
    first = await lab.compile(ECHO)
    assert await lab.error("pub fn other() {}") == NO_HANDLE
    assert "can't find crate for `module`" in await lab.error("extern crate module; pub use module::handle;")
    assert await lab.compile(ECHO) == first
