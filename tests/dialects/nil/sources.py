"""What several tests run: AssemblyScript that does many things, compiled once, and modules that need no compiler."""

from __future__ import annotations

import base64

from wasmtime import wat2wasm

from tests.unit.wat import module


def encoded(text: str) -> str:
    """A module in WebAssembly's text format as the API takes it."""
    return base64.b64encode(wat2wasm(text)).decode()


def waiting(ms: int) -> str:
    """A module that logs its input, is busy for a while, and answers with its input."""
    return encoded(
        module(
            f"""(call $log (local.get $input)) (global.set $end (f64.add (call $now) (f64.const {ms})))
            (loop $again (br_if $again (f64.lt (call $now) (global.get $end)))) (local.get $input)""",
            "(global $end (mut f64) (f64.const 0))",
        )
    )


TOOL = r"""
import { JSON } from "json-as";

@json
class Order {
  act: string = "";
  text: string = "";
  n: f64 = 0;
}

@external("env", "seed") declare function seed(): f64;

let count: i32 = 0;
let kept: StaticArray<u8>[] = [];

function recurse(n: i32): i32 { return n <= 0 ? 0 : recurse(n + 1) + recurse(n + 2); }
function wait(ms: f64): void { const end = Date.now() + <i64>ms; while (Date.now() < end) {} }
function divide(by: i32): i32 { return 10 / by; }
function minimum(by: i32): i32 { return i32.MIN_VALUE / by; }

export function handle(input: string): string {
  const order = JSON.parse<Order>(input);
  const act = order.act, text = order.text, n = <i32>order.n;
  count++;
  if (act == "throw") throw new Error(text);
  if (act == "range") throw new RangeError(text);
  if (act == "assert") assert(n == 1, text);
  if (act == "assert-bare") assert(n == 1);
  if (act == "index") return [1, 2][n].toString();
  if (act == "key") return new Map<string, i32>().get(text).toString();
  if (act == "divide") return divide(n).toString();
  if (act == "overflow") return minimum(n).toString();
  if (act == "unreachable") unreachable();
  if (act == "load") return load<i32>(<usize>0xFFFFFFF0).toString();
  if (act == "convert") return (<i32>(order.n / 0)).toString();
  if (act == "recurse") return recurse(n + 1).toString();
  if (act == "loop") { while (true) {} }
  if (act == "eat") { while (true) { const part = new StaticArray<u8>(1 << 20); part[0] = 1; kept.push(part); } }
  if (act == "grow") return memory.grow(n).toString();
  if (act == "null") return changetype<string>(0);
  if (act == "pointer") return changetype<string>(<usize><u32>order.n);
  if (act == "output") return text;
  if (act == "repeat") return '"' + text.repeat(n) + '"';
  if (act == "nest") return "[".repeat(n) + "]".repeat(n);
  if (act == "wait") { wait(order.n); return '"' + text + '"'; }
  if (act == "count") return count.toString();
  if (act == "random") return "[" + Math.random().toString() + "," + Math.random().toString() + "]";
  if (act == "now") return Date.now().toString();
  if (act == "log") { for (let i = 0; i < n; i++) console.log(text + (n > 1 ? i.toString() : "")); return input; }
  if (act == "log-big") { console.log(text.repeat(n)); return "1"; }
  if (act == "log-throw") { console.log("first"); console.log(text); throw new Error(text); }
  if (act == "log-loop") { console.log("first"); console.log(text); while (true) {} }
  if (act == "log-trap") { console.log("first"); console.log(text); unreachable(); }
  return input;
}
"""

SUM = """
import { JSON } from "json-as";
export function handle(input: string): string {
  const data = JSON.parse<Map<string, i32>>(input);
  const result = new Map<string, i32>();
  result.set("sum", data.get("a") + data.get("b"));
  return JSON.stringify(result);
}
"""
