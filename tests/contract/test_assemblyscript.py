"""AssemblyScript for real: compiled and prepared in sandboxes, and run where what comes out is what matters."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from tests.lab import Lab, open_lab

from spinney.model import Outcome
from spinney.ports import Compiled
from spinney.runtimes.assemblyscript import AssemblyScriptCompiler

pytestmark = pytest.mark.anyio

ECHO = "export function handle(input: string): string { return input; }"
SUM = """
import { JSON } from "json-as";
export function handle(input: string): string {
  const data = JSON.parse<Map<string, i32>>(input);
  const result = new Map<string, i32>();
  result.set("sum", data.get("a") + data.get("b"));
  return JSON.stringify(result);
}
"""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def lab() -> AsyncIterator[Lab]:
    async with open_lab(AssemblyScriptCompiler()) as lab:
        yield lab


# -- what works --------------------------------------------------------------------------------------------------------


async def test_echo(lab: Lab) -> None:
    assert await lab.check(ECHO) is None
    assert await lab.run(ECHO, '{"a":5}', "{}") == ['{"a":5}', "{}"]


async def test_sum_with_json_as(lab: Lab) -> None:
    assert await lab.run(SUM, '{"a":5,"b":3}') == ['{"sum":8}']


async def test_classes_values_and_raw(lab: Lab) -> None:
    source = """
      import { JSON } from "json-as/assembly";
      @json class Inner { list: i32[] = []; flag: bool = false; }
      @json class Outer {
        name: string = "";
        inner: Inner = new Inner();
        any: JSON.Value[] = [];
        raw: JSON.Raw = new JSON.Raw("null");
      }
      export function handle(input: string): string {
        const outer = JSON.parse<Outer>(input);
        outer.inner.list.push(4);
        const object = new JSON.Obj();
        object.set("outer", outer);
        return JSON.stringify(object);
      }
    """
    text = '{"name":"n","inner":{"list":[1,2],"flag":true},"any":[1,"x"],"raw":{"k":[1]}}'
    (answer,) = await lab.run(source, text)
    expected = json.loads(text)
    expected["inner"]["list"].append(4)
    assert json.loads(answer) == {"outer": expected}


STRINGS = (
    "Hello, 🌍!",
    "\uffff",
    "\uffff\n\uffff\t",
    '"\\/\b\f\n\r\t\0\x1f\x7f',
    "é€𝄞漢字",
    "🌍\n" * 20,
    "plain " * 50 + "🌍" + "\\" * 5,
    "",
)


async def test_strings_come_back_unchanged(lab: Lab) -> None:
    source = """
      import { JSON } from "json-as";
      @json class Box { text: string = ""; }
      export function handle(input: string): string {
        return JSON.stringify(JSON.parse<Box>(input));
      }
    """
    inputs = [json.dumps({"text": text}, ensure_ascii=escaped) for text in STRINGS for escaped in (False, True)]
    answers = await lab.run(source, *inputs)
    assert [json.loads(answer)["text"] for answer in answers] == [text for text in STRINGS for _ in range(2)]


async def test_lone_surrogates_stay_themselves_inside_a_function(lab: Lab) -> None:
    source = r"""
      import { JSON } from "json-as";
      export function handle(input: string): string {
        const texts = ["\ud83d", "x\udf0d", "\udf0d\ud83d", "a\ud83d\n"];
        let same = 0;
        for (let i = 0; i < texts.length; i++) {
          if (JSON.parse<string>(JSON.stringify(texts[i])) == texts[i]) same++;
        }
        return same.toString();
      }
    """
    assert await lab.run(source, "{}") == ["4"]


async def test_the_host_s_functions(lab: Lab) -> None:
    source = """
      export function handle(input: string): string {
        console.log("seen");
        if (Date.now() < 0) throw new Error("no time");
        return (Math.random() < 1).toString();
      }
    """
    prepared = await lab.prepare(source)
    assert {name for _, name, _ in prepared.facts.imports} == {"abort", "console.log", "Date.now", "seed"}
    assert lab.compiler.check(prepared.facts, 128) is None


async def test_warnings_are_neither_fatal_nor_shown(lab: Lab) -> None:
    source = (
        "export function handle(input: string): string { const n: i32 = <i32>changetype<usize>(input); return n.toString(); }"
    )
    assert await lab.check(source) is None
    text = await lab.error(source.replace("return n", "return missing; return n"))
    assert "WARNING" not in text
    assert "TS2304" in text


# -- what does not compile ---------------------------------------------------------------------------------------------


async def test_diagnostics(lab: Lab) -> None:
    text = await lab.error("export function handle(input: string): string {\n  return missing;\n}\n")
    assert text == "\n".join(
        [
            "ERROR TS2304: Cannot find name 'missing'.",
            "   :",
            " 2 │ return missing;",
            "   │        ~~~~~~~",
            "   └─ in module.ts(2,10)",
            "",
            "FAILURE 1 compile error(s)",
        ]
    )


@pytest.mark.parametrize(
    ("specifier", "file"),
    [
        ("fs", "~lib/fs.ts"),
        ("./other", "other.ts"),
        ("../../x", "../../x.ts"),
        ("/etc/passwd", "~lib//etc/passwd.ts"),
        ("xjb-as", "~lib/xjb-as.ts"),
        ("json-as/package", "~lib/json-as/package.ts"),
        ("json-as/../assemblyscript/std/assembly/array", "~lib/assemblyscript/std/assembly/array.ts"),
        ("assemblyscript", "~lib/assemblyscript.ts"),
        (
            "../opt/spinney/assemblyscript/node_modules/json-as/index",
            "../opt/spinney/assemblyscript/node_modules/json-as/index.ts",
        ),
    ],
)
async def test_nothing_else_can_be_imported(lab: Lab, specifier: str, file: str) -> None:
    text = await lab.error(f'import * as other from "{specifier}"; {ECHO}')
    assert f"ERROR TS6054: File '{file}' not found." in text
    assert text.endswith("FAILURE 1 parse error(s)")


async def test_diagnostics_tell_no_path(lab: Lab) -> None:
    source = 'import { JSON } from "json-as"; type A = i32; type A = string; @json class Q { a: A = 1; f: () => void; }\n'
    text = await lab.error(source + ECHO.replace("return input", "return JSON.stringify(new Q())"))
    assert "Type alias conflict" in text
    assert not [word for word in ("/opt", "/var", "/work", "node_modules", "file:", "\x1b", "    at ") if word in text]


async def test_a_file_of_errors_is_cut(lab: Lab) -> None:
    source = "".join(f"let v{n}: Missing{n};\n" for n in range(3000))
    text = await lab.error(source + ECHO)
    assert 60_000 < len(text.encode()) <= 65_536
    assert text.startswith("ERROR TS2304: Cannot find name 'Missing0'.")


async def test_endlessly_recursive_generics_crash_one_compiler_only(lab: Lab) -> None:
    source = "function f<T>(x: T): void { f<Array<T>>([x]); }\n" + ECHO.replace("return", "f<i32>(1); return")
    reply = await lab.reply(source)
    assert (reply.outcome, reply.reusable) == (Outcome.OK, False)
    compiled = lab.compiler.result(reply)
    assert compiled == Compiled(error="Compiler crashed: RangeError: Maximum call stack size exceeded", lasting=False)
    assert await lab.check(ECHO) is None


async def test_memory_runs_out(lab: Lab) -> None:
    reply = await lab.starve(f"const numbers: i32[] = [{'1,' * 400_000}]; {ECHO}", memory_mb=160)
    assert reply.outcome is Outcome.OUT_OF_MEMORY


@pytest.mark.parametrize(
    "source", ["(" * 100_000, ECHO.replace("return input", "return " + "(" * 30_000 + "input" + ")" * 30_000)]
)
async def test_sources_that_nest_too_deep(lab: Lab, source: str) -> None:
    compiled = await lab.compile(source)
    assert not compiled.module
    assert compiled.error
    assert "node_modules" not in compiled.error


@pytest.mark.parametrize("source", ["", "\0", "\ufeff", "\ud800", "}" * 1000, "export {", "//", "'", "`${"])
async def test_sources_that_make_no_sense(lab: Lab, source: str) -> None:
    compiled = await lab.compile(source)
    if compiled.module:
        facts = (await lab.prepare(source)).facts
        assert lab.compiler.check(facts, 128) == "Module must export function handle(input: string): string"
    else:
        assert compiled.error


async def test_names_that_mean_something_to_javascript(lab: Lab) -> None:
    source = """
      import { JSON } from "json-as";
      @json class __proto__ { a: i32 = 1; }
      @json class constructor { toString1: string = "x"; hasOwnProperty: i32 = 2; }
      export function handle(input: string): string {
        return JSON.stringify(new constructor()) + JSON.stringify(new __proto__());
      }
    """
    compiled = await lab.compile(source)
    assert compiled.module or compiled.error
    assert await lab.run(SUM, '{"a":1,"b":1}') == ['{"sum":2}']


# -- nothing is carried over -------------------------------------------------------------------------------------------


async def test_classes_of_one_name(lab: Lab) -> None:
    def source(field: str, kind: str, value: str) -> str:
        return f"""
          import {{ JSON }} from "json-as";
          type Alias = {kind};
          @json class Point {{ {field}: Alias = {value}; }}
          export function handle(input: string): string {{ return JSON.stringify(JSON.parse<Point>(input)); }}
        """

    first, second = source("x", "i32", "1"), source("other", "string", '"d"')
    for _ in range(2):
        assert await lab.run(first, "{}", '{"x":7}') == ['{"x":1}', '{"x":7}']
        assert await lab.run(second, "{}", '{"other":"é"}') == ['{"other":"d"}', '{"other":"é"}']


async def test_an_error_leaves_nothing_behind(lab: Lab) -> None:
    before = await lab.compile(SUM)
    assert await lab.error(SUM.replace("result.set", "missing.set"))
    assert await lab.error(SUM.replace("Map<string, i32>", "Unknown"))
    assert await lab.compile(SUM) == before


# -- the rules for modules ---------------------------------------------------------------------------------------------

NO_HANDLE = "Module must export function handle(input: string): string"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("export function other(input: string): string { return input; }", NO_HANDLE),
        ("export function handle(): string { return ''; }", NO_HANDLE),
        ("export function handle(a: i32, b: i32): i32 { return a + b; }", NO_HANDLE),
        ("export function handle(a: f64): f64 { return a; }", NO_HANDLE),
        ("export function handle(input: string): void {}", NO_HANDLE),
        ("export const handle: i32 = 1;", NO_HANDLE),
        ("export class handle {}", NO_HANDLE),
        ("export function handle(a: i32): i32 { return a; }", None),
        ("function impl(input: string): string { return input; } export { impl as handle };", None),
        (
            f'@external("env", "process.exit") declare function exit(): void; exit(); {ECHO}',
            "Unsupported import env.process.exit",
        ),
        (f"process.exit(1); {ECHO}", "Unsupported import env.process.exit"),
        (
            f'@external("wasi_snapshot_preview1", "fd_write") declare function write(): void; write(); {ECHO}',
            "Unsupported import wasi_snapshot_preview1.fd_write",
        ),
        (f'@external("env", "seed") declare function seed(): i32; seed(); {ECHO}', "Unsupported import env.seed"),
        (f'@external("env", "abort") declare let abort_: i32; {ECHO.replace("return", "abort_; return")}', None),
        (f"declare function mystery(): void; mystery(); {ECHO}", "Unsupported import module.mystery"),
        ("declare function mystery(): void; mystery();", "Unsupported import module.mystery"),
    ],
)
async def test_what_a_module_must_be_like(lab: Lab, source: str, message: str | None) -> None:
    assert await lab.check(source) == message


async def test_a_module_that_needs_too_much_memory(lab: Lab) -> None:
    source = f"const big: usize = memory.data(3 << 20); {ECHO.replace('return', 'store<u8>(big, 1); return')}"
    assert await lab.check(source) is None
    assert await lab.check(source, memory_mb=2) == "Module needs more memory than the limit of 2 MiB"
