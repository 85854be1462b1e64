"""Go for real: compiled and prepared in sandboxes, and run where what comes out is what matters."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from tests.lab import Lab, Module, open_lab, told

from spinney.model import Outcome
from spinney.runtimes.go import GoCompiler

pytestmark = pytest.mark.anyio

ECHO = "package main\n\nfunc Handle(input string) string { return input }\n"
NO_HANDLE = "Module must export func Handle(input string) string"

TOOL = r"""
package main

import (
	crypto "crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"
)

type Order struct {
	What string
	List []int
	Any  any
}

type Kind struct{ Number int }

var calls int
var kept [][]byte

func init() { calls++ }

func main() { panic("main is not called") }

func recurse(n int) int {
	if n < 0 {
		return 0
	}
	return recurse(n+1) + n
}

func recurseFar(n int) int {
	var frame [4096]int
	frame[n%4096] = n
	return recurseFar(n+1) + frame[(n+1)%4096]
}

func Handle(input string) (string, error) {
	var order Order
	if err := json.Unmarshal([]byte(input), &order); err != nil {
		return "", err
	}
	fmt.Println("out", order.What)
	fmt.Fprint(os.Stderr, "err é\nsecond\n")
	fmt.Print("no end")
	switch order.What {
	case "sum":
		sum := 0
		for _, number := range order.List {
			sum += number
		}
		output, err := json.Marshal(map[string]any{"sum": sum, "what": "🌍 \"é\""})
		return string(output), err
	case "value":
		output, err := json.Marshal(order.Any)
		return string(output), err
	case "count":
		calls++
		return fmt.Sprint(calls), nil
	case "seed":
		bytes := make([]byte, 8)
		crypto.Read(bytes)
		return fmt.Sprintf(`"%x %x"`, bytes, rand.Uint64()), nil
	case "time":
		start := time.Now()
		time.Sleep(3 * time.Millisecond)
		return fmt.Sprintf("[%d,%t]", start.Unix(), time.Since(start) >= 3*time.Millisecond), nil
	case "around":
		_, read := os.ReadFile("/etc/passwd")
		write := os.WriteFile("x", nil, 0o600)
		return fmt.Sprintf("[%t,%t,%d,%d]", read != nil, write != nil, len(os.Environ()), len(os.Args)), nil
	case "goroutines":
		answers := make(chan int)
		go func() { time.Sleep(2 * time.Millisecond); answers <- 42 }()
		select {
		case answer := <-answers:
			return fmt.Sprint(answer), nil
		case <-time.After(5 * time.Second):
			return "", errors.New("nothing came")
		}
	case "garbage":
		for n := range 500 {
			kept = [][]byte{make([]byte, 1<<20)}
			kept[0][n] = 1
		}
		return fmt.Sprint(len(kept)), nil
	case "fail":
		return "", errors.New("an: error\nin two lines")
	case "json":
		return "{'no': json}", nil
	case "bytes":
		return "\"\xff\"", nil
	case "panic":
		panic(fmt.Sprintf("boom: %d", len(order.List)))
	case "error":
		panic(errors.New("as error"))
	case "number":
		panic(42)
	case "struct":
		panic(Kind{7})
	case "nil":
		var kind *Kind
		return fmt.Sprint(kind.Number), nil
	case "index":
		return fmt.Sprint(order.List[len(order.What)]), nil
	case "divide":
		return fmt.Sprint(1 / len(order.List)), nil
	case "goroutine":
		go func() { panic("elsewhere") }()
		time.Sleep(5 * time.Second)
	case "deadlock":
		<-make(chan int)
	case "stack":
		return fmt.Sprint(recurse(1)), nil
	case "far":
		return fmt.Sprint(recurseFar(1)), nil
	case "memory":
		for {
			kept = append(kept, make([]byte, 1<<20))
		}
	case "loop":
		for {
			calls++
		}
	case "exit":
		os.Exit(3)
	}
	return "", errors.New("what?")
}
"""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def lab() -> AsyncIterator[Lab]:
    async with open_lab(GoCompiler()) as lab:
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
    prepared = await lab.prepare(lab.compiler.sample)
    assert lab.compiler.check(prepared.facts, 128) is None
    assert lab.compiler.check(prepared.facts, 1) == "Module needs more memory than the limit of 1 MiB"
    async with lab.running(prepared.executable) as module:
        for text in ('{"a":5,"t":"é🌍\\u0000"}', "{}", '{"a":"%s"}' % ("x" * 300_000)):
            assert told(await module(text)) == text


async def test_json(tool: Module) -> None:
    assert json.loads(told(await tool(order("sum", list=[5, 3])))) == {"sum": 8, "what": '🌍 "é"'}
    values = [0.1, 123456789.12345679, 1e300, {"é": [None, True]}]
    assert json.loads(told(await tool(order("value", any=values)))) == values


async def test_each_call_begins_anew(tool: Module) -> None:
    assert [told(await tool(order("count"))) for _ in range(3)] == ["2", "2", "2"]
    seeds = {part for _ in range(4) for part in json.loads(told(await tool(order("seed")))).split()}
    assert len(seeds) == 8


async def test_what_is_around_a_function(tool: Module) -> None:
    assert json.loads(told(await tool(order("around")))) == [True, True, 0, 0]
    seconds, slept = json.loads(told(await tool(order("time"))))
    assert seconds > 1_700_000_000
    assert slept


async def test_goroutines(tool: Module) -> None:
    assert told(await tool(order("goroutines"))) == "42"


async def test_memory_that_is_not_needed_any_more_is_used_again(tool: Module) -> None:
    assert told(await tool(order("garbage"))) == "1"


async def test_output_is_the_log(tool: Module) -> None:
    for what in ("sum", "fail", "panic"):
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
        ("panic", "Runtime error: boom: 0"),
        ("error", "Runtime error: as error"),
        ("number", "Runtime error: 42"),
        ("struct", "Runtime error: {7}"),
        ("nil", "Runtime error: invalid memory address or nil pointer dereference"),
        ("index", "Runtime error: index out of range [5] with length 0"),
        ("divide", "Runtime error: integer divide by zero"),
        ("goroutine", "Runtime error: elsewhere"),
        ("deadlock", "Runtime error: all goroutines are asleep - deadlock!"),
        ("stack", "WASM trap: call stack exhausted"),
        ("memory", "Memory limit exceeded: 128 MiB"),
        ("exit", "Runtime error: exit status 3"),
        ("json", "Function returned invalid JSON"),
        ("bytes", "Function returned invalid JSON"),
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
    source = 'package main\n\nimport "os"\n\nfunc Handle(input string) string {\n\tvar unused int\n\treturn missing\n}\n'
    assert (await lab.error(source)).splitlines() == [
        'module.go:3:8: "os" imported and not used',
        "module.go:6:6: declared and not used: unused",
        "module.go:7:9: undefined: missing",
    ]


@pytest.mark.parametrize(
    "name", ["github.com/foo/bar", "internal/abi", "vendor/golang.org/x/net/dns/dnsmessage", "function", "./x"]
)
async def test_only_the_standard_library_can_be_imported(lab: Lab, name: str) -> None:
    text = await lab.error(ECHO.replace("\n\n", f'\n\nimport _ "{name}"\n', 1))
    assert text == f"module.go:3:10: package {name} is not in std"


@pytest.mark.parametrize(
    "source",
    [
        "package main\nfunc handle(input string) string { return input }",
        "package main\nfunc Handle() string { return `` }",
        "package main\nfunc Handle(a, b int) int { return a + b }",
        "package main\nfunc Handle(input string) (string, string) { return input, input }",
        "package main\nfunc Handle(input []byte) []byte { return input }",
        "package main\nfunc Handle[T any](input T) T { return input }",
        "package main\nconst Handle = 1",
        "package main\ntype Handle string",
        "package main\n",
    ],
)
async def test_sources_without_a_handler(lab: Lab, source: str) -> None:
    assert await lab.error(source) == NO_HANDLE


@pytest.mark.parametrize("source", ["", "\0", "}", "\ufeff", "\ud800", "package", "func Handle(", "hello", "/*"])
async def test_sources_that_make_no_sense(lab: Lab, source: str) -> None:
    assert (await lab.error(source)).startswith("module.go:1:")


@pytest.mark.parametrize(
    ("directive", "message"),
    [
        ("//go:wasmimport env mystery", "Unsupported import env.mystery"),
        ("//go:wasmimport wasi_snapshot_preview1 sock_open", "Unsupported import wasi_snapshot_preview1.sock_open"),
    ],
)
async def test_what_a_module_must_be_like(lab: Lab, directive: str, message: str) -> None:
    source = f"package main\n\n{directive}\nfunc mystery(a int32) int32\n"
    assert await lab.check(source + "func Handle(input string) string { mystery(1); return input }") == message


# -- hostile sources ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ('import _ "embed"\n//go:embed module.go\nvar text string', "invalid go:embed"),
        ('import _ "embed"\n//go:embed /etc/passwd\nvar text string', "invalid go:embed"),
        ('//go:cgo_import_dynamic x y "z"\nfunc evil()', "missing function body"),
        ("//go:wasmexport spinney_handle\nfunc evil(a, b uint32) uint64 { return 0 }", "duplicated definition of symbol"),
    ],
)
async def test_directives_reach_nothing(lab: Lab, source: str, message: str) -> None:
    text = await lab.error(ECHO.replace("package main\n", f"package main\n{source}\n"))
    assert message in text
    assert not [word for word in ("/opt", "/tmp", "/var", "/work") if word in text]


async def test_generators_are_not_run(lab: Lab) -> None:
    assert (await lab.compile(ECHO + "//go:generate sh -c 'exit 1'\n")).module


async def test_a_long_file_of_errors(lab: Lab) -> None:
    text = await lab.error("package main\n" + "".join(f"var v{n} Missing{n}\n" for n in range(3000)))
    assert text.startswith("module.go:2:8: undefined: Missing0")
    assert len(text) <= 65536


async def test_memory_runs_out(lab: Lab) -> None:
    reply = await lab.starve(f"package main\nvar numbers = []any{{{'1,' * 500_000}}}\n", memory_mb=100)
    assert reply.outcome is Outcome.OUT_OF_MEMORY


async def test_nothing_is_carried_over(lab: Lab) -> None:
    first = await lab.compile(ECHO)
    assert await lab.error("package main\n") == NO_HANDLE
    assert (await lab.error("package main\nfunc Handle(input string) string { return Helper }")).endswith("undefined: Helper")
    assert await lab.compile(ECHO) == first
