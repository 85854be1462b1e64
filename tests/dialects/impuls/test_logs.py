"""Logs (contract 3.5, traps 5, 19)."""

from __future__ import annotations

import re

import pytest

from tests.api import together
from tests.dialects.impuls.api import Api, Function

LIMIT = 262144
TRUNCATED = "[WARN] log output truncated (max 262144 bytes)"

NODE: list[tuple[str, str]] = [
    ("", ""),
    ("console.log('a')", "[INFO] a"),
    ("console.info('a')", "[INFO] a"),
    ("console.debug('a')", "[INFO] a"),
    ("console.warn('a')", "[WARN] a"),
    ("console.error('a')", "[ERROR] a"),
    ("console.log()", "[INFO] "),
    ("console.log('')", "[INFO] "),
    ("console.log('%s=%d', 'a', 1)", "[INFO] a=1"),
    ("console.log({a: 1})", "[INFO] { a: 1 }"),
    ("console.log('a', 1, true, null, undefined, [1, 'x'])", "[INFO] a 1 true null undefined [ 1, 'x' ]"),
    ("console.log(10n, Symbol('s'), () => 1)", "[INFO] 10n Symbol(s) [Function (anonymous)]"),
    ("console.log('one\\ntwo')", "[INFO] one\ntwo"),
    ("console.log('größe 😀')", "[INFO] größe 😀"),
    ("console.log('100%', 5)", "[INFO] 100% 5"),
    ("console.dir({a: {b: {c: {}}}}, {depth: 0})", "[INFO] { a: [Object] }"),
    ("console.assert(true, 'a')", ""),
    ("console.assert(false, 'a %s', 'b')", "[WARN] Assertion failed: a b"),
    ("console.assert(false)", "[WARN] Assertion failed"),
    ("console.group('g'); console.log('in'); console.warn('two\\nlines'); console.groupEnd(); console.log('out')",
     "[INFO] g\n[INFO]   in\n[WARN]   two\n  lines\n[INFO] out"),
    ("console.count(); console.count('x'); console.count('x')", "[INFO] default: 1\n[INFO] x: 1\n[INFO] x: 2"),
    ("console.table([[1]])", "[INFO] ┌─────────┬───┐\n│ (index) │ 0 │\n├─────────┼───┤\n│ 0       │ 1 │\n└─────────┴───┘"),
    ("console.log('a'); console.error('b'); console.log('c')", "[INFO] a\n[ERROR] b\n[INFO] c"),
    ("process.stdout.write('a\\n')", "[INFO] a"),
    ("process.stdout.write('a\\n\\n\\nb')", "[INFO] a\n[INFO] b"),
    ("process.stdout.write('no end of line')", "[INFO] no end of line"),
    ("process.stdout.write('in '); process.stdout.write('parts\\n')", "[INFO] in parts"),
    ("process.stderr.write('a\\nb\\n')", "[WARN] a\n[WARN] b"),
    ("process.stdout.write('\\n\\n')", ""),
    ("require('fs').writeSync(1, 'direct\\n')", "[INFO] direct"),
    ("require('fs').writeSync(2, 'größe 😀\\n')", "[WARN] größe 😀"),
    ("require('child_process').execSync('echo out', {stdio: 'inherit'})", "[INFO] out"),
    ("require('child_process').execSync('echo err >&2', {stdio: 'inherit'})", "[WARN] err"),
    ("new Promise((go) => setTimeout(() => { console.log('timer'); go() }, 5))", "[INFO] timer"),
]  # fmt: skip

NODE_PATTERNS: list[tuple[str, str]] = [
    ("console.trace('here %d', 1)", r"\[ERROR\] Trace: here 1\n    at .+(\n    at .+)*"),
    ("console.time('t'); console.timeLog('t', 'extra')", r"\[INFO\] t: [\d.]+m?s extra"),
    ("console.time('t2'); console.timeEnd('t2')", r"\[INFO\] t2: [\d.]+m?s"),
    ("console.log(new Error('boom'))", r"\[INFO\] Error: boom\n    at .+(\n    at .+)*"),
    ("console.log(new Map([[{a: 1}, new Set([1])]]))", r"\[INFO\] Map\(1\) \{ \{ a: 1 \} => Set\(1\) \{ 1 \} \}"),
    ("require('fs').writeSync(1, Buffer.from([97, 255, 254, 98, 10]))", r"\[INFO\] a.+b"),
]

PYTHON: list[tuple[str, str]] = [
    ("", ""),
    ("import logging; logging.info('a %s', 1)", "[INFO] a 1"),
    ("import logging; logging.debug('hidden by the root level')", ""),
    ("import logging; log = logging.getLogger('mine'); log.setLevel('DEBUG'); log.debug('fine')", "[INFO] fine"),
    ("import logging; logging.warning('a')", "[WARN] a"),
    ("import logging; logging.error('a')", "[ERROR] a"),
    ("import logging; logging.critical('a')", "[ERROR] a"),
    ("import logging; logging.getLogger('some.name').info('one\\ntwo')", "[INFO] one\ntwo"),
    ("print('a', 1)", "[INFO] a 1"),
    ("print('a\\n\\nb')", "[INFO] a\n[INFO] b"),
    ("print('no end of line', end='')", "[INFO] no end of line"),
    ("import sys; print('a', file=sys.stderr)", "[WARN] a"),
    ("import sys; sys.stdout.write('größe 😀')", "[INFO] größe 😀"),
    ("import os; os.write(1, b'direct\\n')", "[INFO] direct"),
    ("import os; os.write(2, b'direct\\n')", "[WARN] direct"),
    ("import subprocess; subprocess.run(['echo', 'child'])", "[INFO] child"),
    ("print('[ERROR] forged')", "[INFO] [ERROR] forged"),
]


@pytest.mark.parametrize(("source", "logs"), NODE)
def test_node(js: Function, source: str, logs: str) -> None:
    assert js.logs(source) == logs


@pytest.mark.parametrize(("source", "pattern"), NODE_PATTERNS)
def test_node_texts_that_vary(js: Function, source: str, pattern: str) -> None:
    logs = js.logs(source)
    assert re.fullmatch(pattern, logs), logs


@pytest.mark.parametrize(("source", "logs"), PYTHON)
def test_python(py: Function, source: str, logs: str) -> None:
    assert py.logs(source) == logs


@pytest.mark.parametrize("runtime", ["nodejs18", "nodejs22"])
def test_other_node_versions(api: Api, runtime: str) -> None:
    function = api.node(
        "console.log({a: 1}); console.warn('w'); console.error('e'); process.stdout.write('bare\\n')", runtime=runtime
    )
    lines = function.logs().split("\n")
    assert [line for line in lines if "bare" not in line] == ["[INFO] { a: 1 }", "[WARN] w", "[ERROR] e"]
    assert "[INFO] bare" in lines


def test_logs_never_become_results(js: Function) -> None:
    forged = '{"status_code": 200, "body": "forged"}'
    answer = js.invoke(f"console.log({forged!r}); process.stdout.write({forged!r} + '\\n'); 'mine'")
    assert answer["body"] == "mine"
    assert answer["logs"].count("forged") == 2


def test_loading_belongs_to_the_first_invocation(api: Api) -> None:
    for function in (
        api.function("console.log('loading'); exports.handler = () => console.log('handling')"),
        api.python("print('loading')\ndef handler(event, context): print('handling')"),
    ):
        assert function.logs() == "[INFO] loading\n[INFO] handling"
        assert function.logs() == "[INFO] handling"


def test_a_failure_ends_the_logs(js: Function) -> None:
    assert js.logs("throw new Error('boom')") == "[ERROR] boom"
    assert js.logs("console.log('before'); throw new Error('two\\nlines')") == "[INFO] before\n[ERROR] two\nlines"
    assert js.logs("console.error('boom'); throw new Error('boom')") == "[ERROR] boom\n[ERROR] boom"
    assert js.logs("({statusCode: 500, body: 'no failure'})") == ""


def test_the_limit_in_bytes(js: Function) -> None:
    exactly = js.logs(f"console.log('x'.repeat({LIMIT - 7}))")
    assert exactly == "[INFO] " + "x" * (LIMIT - 7)
    more = js.logs(f"console.log('x'.repeat({LIMIT - 6}))")
    assert more == "[INFO] " + "x" * (LIMIT - 7) + "\n" + TRUNCATED


def test_the_cut_is_between_characters(js: Function) -> None:
    kept = "[INFO] " + "é" * ((LIMIT - 7) // 2)
    assert js.logs(f"console.log('é'.repeat({LIMIT}))") == f"{kept}\n{TRUNCATED}"


def test_many_lines_are_kept_from_the_beginning(js: Function) -> None:
    logs = js.logs("for (let n = 0; n < 50000; n++) console.log('line ' + n)")
    kept, _, last = logs.rpartition("\n")
    assert last == TRUNCATED
    assert len(kept.encode()) == LIMIT
    whole = "\n".join(f"[INFO] line {n}" for n in range(50000))
    assert whole.startswith(kept)


def test_the_failure_comes_after_the_cut(js: Function) -> None:
    logs = js.logs(f"console.log('x'.repeat({2 * LIMIT})); throw new Error('boom')")
    assert logs.endswith(f"x\n{TRUNCATED}\n[ERROR] boom")


@pytest.mark.parametrize(
    ("make", "source"),
    [
        ("js", "for (let n = 0; n < 500; n++) process.stdout.write('y'.repeat(99999) + '\\n'); 'done'"),
        ("js", "for (let n = 0; n < 500; n++) require('fs').writeSync(2, 'y'.repeat(99999) + '\\n'); 'done'"),
        ("js", "for (let n = 0; n < 500; n++) console.log('y'.repeat(99999)); 'done'"),
        ("py", "for n in range(500): print('y' * 99999)\nvalue = 'done'"),
    ],
)
def test_a_flood_harms_nothing(request: pytest.FixtureRequest, make: str, source: str) -> None:
    function: Function = request.getfixturevalue(make)
    answer = function.invoke(source)
    assert answer["body"] == "done"
    assert answer["logs"].endswith("\n" + TRUNCATED)
    assert len(answer["logs"].encode()) <= LIMIT + 1 + len(TRUNCATED)
    assert function.logs("1") == ""


@pytest.mark.parametrize(
    ("make", "write", "level"),
    [
        ("js", "process.stdout.write({text})", "INFO"),
        ("js", "process.stderr.write({text})", "WARN"),
        ("js", "require('child_process').spawnSync('cat', {{input: {text}, stdio: ['pipe', 'inherit', 'inherit']}})", "INFO"),
        ("py", "import sys; sys.stdout.write({text})", "INFO"),
    ],
)
def test_all_that_was_written_is_in_its_own_logs(request: pytest.FixtureRequest, make: str, write: str, level: str) -> None:
    """More than a pipe holds, in every invocation of a warm sandbox, and none of it in the next one's."""
    function: Function = request.getfixturevalue(make)
    for number in range(5):
        lines = [f"{number} {line} {'z' * 80}" for line in range(2000)]
        text = "\\n".join(lines) + "\\n"
        logs = function.logs(write.format(text=f'"{text}"'))
        assert logs == "\n".join(f"[{level}] {line}" for line in lines)
        assert function.logs("1") == ""


def test_nothing_is_lost_at_an_exit(js: Function, py: Function) -> None:
    message = "function exited before returning (exit code 3)"
    lines = [f"{n} {'z' * 90}" for n in range(2000)]
    text = "\\n".join(lines)
    expected = "\n".join([*(f"[INFO] {line}" for line in lines), f"[ERROR] {message}"])
    assert js.logs(f'process.stdout.write("{text}\\n"); process.exit(3)') == expected
    assert js.logs(f'for (const line of "{text}".split("\\n")) console.log(line); process.exit(3)') == expected
    assert py.logs(f'print("{text}"); import sys; sys.exit(3)') == expected


def test_a_timer_left_over_is_not_heard(api: Api) -> None:
    function = api.function(
        """
        exports.handler = async (event) => {
            if (event.leave) return void [setTimeout(() => console.log('once'), 20), setInterval(() => console.log('again'), 20)]
            await new Promise((go) => setTimeout(go, 150));
            console.log('own');
        }
        """
    )
    for _ in range(3):
        function({"leave": True})
        assert function.logs() == "[INFO] own"


def test_neighbours_are_not_heard(api: Api) -> None:
    code = "for (let n = 0; n < 50; n++) { console.log(event.word); process.stdout.write(event.word + '\\n'); await null }"
    functions = [api.node(code) for _ in range(4)]

    def call(number: int) -> None:
        word = f"word-{number}"
        assert functions[number % 4].logs({"word": word}).split("\n") == [f"[INFO] {word}"] * 100

    together(call, range(24))
