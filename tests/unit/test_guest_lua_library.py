"""The library of Lua programs, function by function (Lunar contract 3.4 to 3.8)."""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from tests.unit.lua import Evaluator, evaluator


@pytest.fixture(scope="module")
def lua() -> Iterator[Evaluator]:
    with evaluator() as guest:
        yield guest


def check(lua: Evaluator, cases: dict[str, Any]) -> None:
    """Each expression's value."""
    assert {text: lua(f"return {text}") for text in cases} == cases


def faults(lua: Evaluator, cases: dict[str, str]) -> None:
    """Each expression raises, and names its line."""
    assert {text: lua.fails(f"local _ = {text}") for text in cases} == {
        text: message if message.startswith("not enough") else f"<string>:1: {message}" for text, message in cases.items()
    }


# -- the language ------------------------------------------------------------------------------------------------------

GLOBALS = """
    _G _VERSION assert bit collectgarbage coroutine error getfenv getmetatable handler ipairs load loadstring math newproxy next
    os package pairs pcall print rawequal rawget rawset require select setfenv setmetatable string table tonumber tostring type
    unpack xpcall ai base64 crypto email env http json kv log random router strings time url
"""


def test_globals(lua: Evaluator) -> None:
    names = lua("local names = {} for name in pairs(_G) do names[#names + 1] = name end return names")
    assert sorted(names) == sorted(GLOBALS.split())
    check(
        lua,
        {
            "_VERSION": "Lua 5.1",
            "string.dump": "nil",
            "string.gfind == string.gmatch": True,
            "table.getn({ 1, 2 })": 2,
            "math.pow(2, 3)": 8,
            "bit.bxor(5, 1)": 4,
            "os.difftime(5, 2)": 3,
            "type(os.clock())": "number",
            "os.date('!%Y', 0)": "1970",
            "strings.rep == strings['repeat']": True,
        },
    )


def test_tables_that_hold_more_elsewhere(lua: Evaluator) -> None:
    keys = "local names = {} for name in pairs(%s) do names[#names + 1] = name end table.sort(names) return names"
    assert lua(keys.replace("%s", "os")) == ["clock", "date", "difftime", "time"]
    assert lua(keys.replace("%s", "package")) == ["loaded", "preload"]


def test_every_function_of_the_library_is_a_function(lua: Evaluator) -> None:
    assert lua("""
        local count = 0
        for name, library in pairs(package.loaded) do
          if name ~= "_G" and name ~= "package" then
            for key, value in pairs(library) do
              if type(value) ~= "number" then count = count + 1 assert(type(value) == "function", name .. "." .. key) end
            end
          end
        end
        return count > 120
    """)


def test_require(lua: Evaluator) -> None:
    check(
        lua,
        {
            "require('json') == json": True,
            "require('string') == string": True,
            "require('_G') == _G": True,
            "package.loaded.kv == kv": True,
        },
    )
    faults(
        lua, {f"require('{name}')": f"module '{name}' not found" for name in ("io", "ffi", "debug", "jit", "x", "string.buffer")}
    )
    assert lua("package.preload.mine = function(name) return { name = name } end return require('mine').name") == "mine"


def test_compiled_chunks_are_refused(lua: Evaluator) -> None:
    for call in ("load('\\27LJ\\2')", "loadstring('\\27LJ\\2')", "load(function() return nil end, 'x', 'b', {})"):
        lua(f"return {call}")
    check(
        lua,
        {
            "load('\\27LJ\\2')": ["nil", "attempt to load chunk with wrong mode"],
            "load('\\27LJ\\2', 'x', 'b')": ["nil", "attempt to load chunk with wrong mode"],
            "loadstring('\\27LJ\\2')": ["nil", "attempt to load chunk with wrong mode"],
            "load('return x', 'c', 't', { x = 5 })()": 5,
            "loadstring('return 1 + 1')()": 2,
            "load('x =')": ["nil", "[string \"x =\"]:1: unexpected symbol near '<eof>'"],
        },
    )
    assert lua("local parts = { 'return ', '7' } return load(function() return table.remove(parts, 1) end)()") == 7
    assert lua("local once return load(function() if not once then once = 1 return '\\27LJ' end end)")[0] == "nil"


TEXTS = {
    "10/2": "5",
    "1e15": "1000000000000000",
    "2^53": "9007199254740992",
    "-2^53": "-9007199254740992",
    "2^62": "4611686018427387904",
    "2^63": "9223372036854776000",
    "1e20": "100000000000000000000",
    "1e21": "1e+21",
    "1e300": "1e+300",
    "0.1": "0.1",
    "0.1 + 0.2": "0.30000000000000004",
    "1/3": "0.3333333333333333",
    "0.0001": "0.0001",
    "0.00001": "1e-05",
    "-0.00001": "-1e-05",
    "123456.789": "123456.789",
    "5e-324": "5e-324",
    "1.7976931348623157e308": "1.7976931348623157e+308",
    "-0": "0",
    "1/0": "+Inf",
    "-1/0": "-Inf",
    "0/0": "NaN",
}


def test_numbers_as_text(lua: Evaluator) -> None:
    check(lua, {f"tostring({number})": text for number, text in TEXTS.items()})
    check(lua, {f"strings.join({{ {number} }}, '')": text for number, text in TEXTS.items()})
    assert lua("return 0.5 .. '', table.concat({ 1, 99999999999999 }, ' '), string.format('%s', 0.25)") == [
        "0.5",
        "1 99999999999999",
        "0.25",
    ]
    check(lua, {"tostring('x')": "x", "tostring(nil)": "nil", "tostring(true)": "true", "tonumber(tostring(0.1)) == 0.1": True})
    faults(lua, {"tostring()": "bad argument #1 to 'tostring' (value expected)"})


def test_wrong_arguments_name_function_and_kind(lua: Evaluator) -> None:
    faults(
        lua,
        {
            "kv.get()": "bad argument #1 to get (string expected, got nil)",
            "kv.setGlobal('a', {})": "bad argument #2 to setGlobal (string expected, got table)",
            "json.decode(true)": "bad argument #1 to decode (string expected, got boolean)",
            "strings.join('x', ',')": "bad argument #1 to join (table expected, got string)",
            "random.int('a', 1)": "bad argument #1 to int (number expected, got string)",
            "http.get('http://x', 5)": "bad argument #2 to get (table expected, got number)",
            "log.warn()": "bad argument #1 to warn (string expected, got nil)",
            "time.sleep({})": "bad argument #1 to sleep (number expected, got table)",
            "crypto.hmac_sha1('x')": "bad argument #2 to hmac_sha1 (string expected, got nil)",
            "ai.chat()": "bad argument #1 to chat (table expected, got nil)",
            "router.match(print)": "bad argument #1 to match (string expected, got function)",
        },
    )
    check(lua, {"strings.trim(5)": "5", "base64.encode(12)": "MTI=", "random.int('3', '3')": 3})


# -- json --------------------------------------------------------------------------------------------------------------

ENCODED = {
    "{}": "{}",
    "{ 1, 'a', true }": '[1,"a",true]',
    "{ 1, nil, 3 }": "[1,null,3]",
    "{ [3] = 'x' }": '[null,null,"x"]',
    "{ b = 1, a = 2, [1] = 3 }": '{"a":2,"b":1}',
    "{ [0] = 1 }": "{}",
    "{ [1.5] = 1 }": "{}",
    "{ [1] = 1, [-1] = 2 }": "{}",
    "{ a = { b = { {} } } }": '{"a":{"b":[{}]}}',
    "{ Z = 1, a = 1, ['\\255'] = 1, _ = 1 }": '{"Z":1,"_":1,"a":1,"\\ufffd":1}',
    "nil": "null",
    "print": "null",
    "{ print, coroutine.create(print), newproxy() }": "[null,null,null]",
    "'<a>&'": '"\\u003ca\\u003e\\u0026"',
    "'\\226\\128\\168\\226\\128\\169'": '"\\u2028\\u2029"',
    "'\\\"\\\\/\\n\\r\\t\\b\\f\\1\\0\\127'": '"\\"\\\\/\\n\\r\\t\\b\\f\\u0001\\u0000\x7f"',
    "'é€😀'": '"é€😀"',
    "'a\\255b\\192\\175c\\237\\160\\128'": '"a\\ufffdb\\ufffd\\ufffdc\\ufffd\\ufffd\\ufffd"',
    "'\\226\\130'": '"\\ufffd\\ufffd"',
    "0": "0",
    "-0.5": "-0.5",
    "1e15": "1000000000000000",
    "1e20": "100000000000000000000",
    "1e21": "1e+21",
    "2^53": "9007199254740992",
    "1/3": "0.3333333333333333",
    "0.000001": "0.000001",
    "0.0000012345": "0.0000012345",
    "0.0000001": "1e-7",
    "-1.5e-10": "-1.5e-10",
    "1.7976931348623157e308": "1.7976931348623157e+308",
    "5e-324": "5e-324",
    "setmetatable({ 1 }, { __index = function() return 2 end, __len = function() return 9 end })": "[1]",
}


def test_encode(lua: Evaluator) -> None:
    check(lua, {f"json.encode({text})": encoded for text, encoded in ENCODED.items()})


def test_what_has_no_json(lua: Evaluator) -> None:
    unsupported = "json: unsupported value: "
    check(
        lua,
        {
            "json.encode(0/0)": ["nil", unsupported + "NaN"],
            "json.encode({ 1/0 })": ["nil", unsupported + "+Inf"],
            "json.encode({ a = -1/0 })": ["nil", unsupported + "-Inf"],
            "json.encode({ [1002] = 1 })": "[" + "null," * 1001 + "1]",
            "json.encode({ [1003] = 1 })": ["nil", unsupported + "table is too sparse"],
            "json.encode({ [2^40] = 1 })": ["nil", unsupported + "table is too sparse"],
        },
    )
    assert lua("local t = {} t.a = { t } return json.encode(t)") == ["nil", unsupported + "encountered a cycle"]
    assert lua("local t = {} return json.encode({ t, t, { t } })") == "[{},{},[{}]]"
    nested = "local t = 1 for i = 1, {} do t = {{ t }} end return json.encode(t)"
    assert lua(nested.format(1000)) == "[" * 1000 + "1" + "]" * 1000
    for depth in (1001, 100_000):
        assert lua(nested.format(depth)) == ["nil", "json: exceeded max depth"]
    faults(lua, {"json.encode()": "bad argument #1 to encode (value expected)"})


DECODED: dict[str, Any] = {
    "{}": {},
    " [1, 2.5 , -3e2,\t\n\r0, 1E+2, -0.0e-1] ": [1, 2.5, -300, 0, 100, 0],
    '{"a":{"b":[true,false]},"":"x"}': {"a": {"b": [True, False]}, "": "x"},
    '{"a":null,"b":1}': {"b": 1},
    '"\\u00fc\\u20AC\\ud83d\\uDE00\\"\\\\\\/\\b\\f\\n\\r\\t"': 'ü€😀"\\/\b\f\n\r\t',
    '"\\ud83d"': "\ufffd",
    '"\\ude00\\ud83dx"': "\ufffd\ufffdx",
    '"\\ud83d\\u0041"': "\ufffdA",
    '"é😀\x7f"': "é😀\x7f",
    '{"a":1,"a":2}': {"a": 2},
    "9007199254740993": 9007199254740992,
    "12345678901234567890": 12345678901234567000,
    "null": "nil",
    "true": True,
}


def decode(lua: Evaluator, text: str) -> Any:
    return lua(f"return json.decode([==[{text}]==])")


def test_decode(lua: Evaluator) -> None:
    assert {text: decode(lua, text) for text in DECODED} == DECODED
    assert lua("return json.decode(json.encode({ [1] = 1, [3] = 3 }))[3]") == 3
    assert lua("return json.decode('\"a\\0\\255\"') == nil, #json.decode('\"a\\255\"')") == [True, 2]


UNDECODED = {
    "": "unexpected end of JSON input",
    "  ": "unexpected end of JSON input",
    "{": "unexpected end of JSON input",
    '{"a"': "unexpected end of JSON input",
    '{"a":': "unexpected end of JSON input",
    "[1": "unexpected end of JSON input",
    "[1,": "unexpected end of JSON input",
    '"abc': "unexpected end of JSON input",
    '"abc\\': "unexpected end of JSON input",
    '"\\u12': "unexpected end of JSON input",
    "tru": "unexpected end of JSON input",
    "-": "unexpected end of JSON input",
    "1.": "unexpected end of JSON input",
    "1e": "unexpected end of JSON input",
    "{} x": "invalid character 'x' after top-level value",
    "1 2": "invalid character '2' after top-level value",
    "01": "invalid character '1' after top-level value",
    "}": "invalid character '}' looking for beginning of value",
    "[1,]": "invalid character ']' looking for beginning of value",
    "'a'": "invalid character '\\'' looking for beginning of value",
    "+1": "invalid character '+' looking for beginning of value",
    ".5": "invalid character '.' looking for beginning of value",
    "NaN": "invalid character 'N' looking for beginning of value",
    "{a:1}": "invalid character 'a' looking for beginning of object key string",
    '{"a":1,}': "invalid character '}' looking for beginning of object key string",
    '{"a" 1}': "invalid character '1' after object key",
    '{"a":1 "b"}': "invalid character '\"' after object key:value pair",
    "[1 2]": "invalid character '2' after array element",
    "trux": "invalid character 'x' in literal true (expecting 'e')",
    "nulL": "invalid character 'L' in literal null (expecting 'l')",
    "-x": "invalid character 'x' in numeric literal",
    "1.x": "invalid character 'x' after decimal point in numeric literal",
    "1ex": "invalid character 'x' in exponent of numeric literal",
    '"\\x"': "invalid character 'x' in string escape code",
    '"\\u12g4"': "invalid character 'g' in \\u hexadecimal character escape",
    '"a\nb"': "invalid character '\\x0a' in string literal",
    "1e999": "invalid character '1' in numeric literal: out of range",
}


def test_what_is_no_json(lua: Evaluator) -> None:
    # A newline right behind the opening bracket of a long string does not count, so none of these begins with one.
    found = {text: decode(lua, text) for text in UNDECODED}
    assert found == {text: ["nil", message] for text, message in UNDECODED.items()}


def test_decoding_goes_a_thousand_levels_deep(lua: Evaluator) -> None:
    nested = "local t = json.decode(('['):rep({0}) .. (']'):rep({0})) return t ~= nil, {1}"
    assert lua(nested.format(1000, 1)) == [True, 1]
    for depth in (1001, 1_000_000):
        assert lua(f"return json.decode(('['):rep({depth}))") == ["nil", "exceeded max depth"]
        assert lua(f"return json.decode(('{{\"a\":'):rep({depth}))") == ["nil", "exceeded max depth"]


def test_json_goes_there_and_back(lua: Evaluator) -> None:
    text = json.dumps({"a": [1, 2.5, {"b": 'ü\u2028"\\'}], "c": {"d": True}, "e": [[[]]], "f": 1e-9, "g": "x" * 5000})
    reply = lua.call(f"return json.encode(json.decode([==[{text}]==]))")
    assert json.loads(json.loads(reply.body)[0]) == {**json.loads(text), "e": [[{}]]}


# -- base64, crypto ----------------------------------------------------------------------------------------------------


def test_base64(lua: Evaluator) -> None:
    for data in (b"", b"f", b"fo", b"foo", bytes(range(256))):
        text = base64.b64encode(data).decode()
        literal = "".join(f"\\{byte:03}" for byte in data)
        assert lua(f"return base64.encode('{literal}'), base64.decode('{text}') == '{literal}'") == [text, True]
    check(lua, {"base64.decode('Zm\\r\\n9v\\n')": "foo", "base64.decode('')": ""})


CORRUPT = {
    "Zg": 0,
    "Zg=": 3,
    "Z": 0,
    "Zm9vZg": 4,
    "Zm9v!": 4,
    "Z!==": 1,
    "=": 0,
    "Z===": 1,
    "Zg==x": 4,
    "Zg=x": 2,
    "Zm8=x": 4,
    "Zm-_": 2,
}


def test_corrupt_base64_says_where(lua: Evaluator) -> None:
    found = {text: lua(f"return base64.decode('{text}')") for text in CORRUPT}
    assert found == {text: ["nil", f"illegal base64 data at input byte {at}"] for text, at in CORRUPT.items()}


def test_digests(lua: Evaluator) -> None:
    check(
        lua,
        {
            "crypto.md5('a')": "0cc175b9c0f1b6a831c399e269772661",
            "crypto.sha1('')": "da39a3ee5e6b4b0d3255bfef95601890afd80709",
            "crypto.sha256('abc')": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "crypto.sha512('abc'):sub(1, 16)": "ddaf35a193617aba",
            "crypto.hmac_sha1('what do ya want for nothing?', 'Jefe')": "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
            "crypto.hmac_sha256('what do ya want for nothing?', 'Jefe'):sub(1, 16)": "5bdcc146bf60754e",
            "crypto.hmac_sha512('what do ya want for nothing?', 'Jefe'):sub(1, 16)": "164b7a7bfcf819e2",
            "crypto.equal('a', 'a')": True,
            "crypto.equal('a', 'b')": False,
            "crypto.equal('\\255', 'ab')": False,
        },
    )
    assert uuid.UUID(lua("return crypto.uuid()")).version == 4
    assert lua("return crypto.uuid() == crypto.uuid()") is False


# -- time --------------------------------------------------------------------------------------------------------------

MOMENT = 1700000000  # Tuesday, 14 November 2023, 22:13:20 UTC

FORMATTED = {
    "2006-01-02 15:04:05": "2023-11-14 22:13:20",
    "2006-01-02T15:04:05Z07:00": "2023-11-14T22:13:20Z",
    "Mon, 02 Jan 2006 15:04:05 MST": "Tue, 14 Nov 2023 22:13:20 UTC",
    "Monday, 02-Jan-06 15:04:05 -0700": "Tuesday, 14-Nov-23 22:13:20 +0000",
    "Jan _2 3:04PM": "Nov 14 10:13PM",
    "January 2, 3pm": "November 14, 10pm",
    "1/2/06 03:4:5 pm": "11/14/23 10:13:20 pm",
    "002 __2": "318 318",
    ".000 .999 05.000 05,999": ".000  20.000 20",
    "-07:00 -07 -070000 -07:00:00 Z0700 Z070000": "+00:00 +00 +000000 +00:00:00 Z Z",
    "_2006 Janet Month": "_2023 Janet Month",
    "hello é": "hello é",
    "": "",
}


def test_times_as_text(lua: Evaluator) -> None:
    assert {layout: lua(f"return time.format({MOMENT}, '{layout}')") for layout in FORMATTED} == FORMATTED
    check(
        lua,
        {
            "time.format(5 * 86400, '_2 2 02 __2 002')": " 6 6 06   6 006",
            "time.format(0.9, '15:04:05 3PM')": "00:00:00 12AM",
            "time.format(12 * 3600, '3PM')": "12PM",
            "time.format(-1.5, '2006 05')": "1969 59",
            "time.format('60', '04')": "01",
        },
    )
    assert lua("return time.format(2^60, '2006')") == lua("return time.format(2^53, '2006')") == "285428751"


PARSED = {
    ("2023-11-14 22:13:20", "2006-01-02 15:04:05"): MOMENT,
    ("2023-11-14T22:13:20Z", "2006-01-02T15:04:05Z07:00"): MOMENT,
    ("2023-11-15T00:13:20+02:00", "2006-01-02T15:04:05Z07:00"): MOMENT,
    ("2023-11-14T22:13:20.123456Z", "2006-01-02T15:04:05Z07:00"): MOMENT,
    ("2023-11-14T22:13:20.123", "2006-01-02T15:04:05.000"): MOMENT,
    ("2023-11-14T22:13:20", "2006-01-02T15:04:05.999"): MOMENT,
    ("Tue, 14 Nov 2023 22:13:20 UTC", "Mon, 02 Jan 2006 15:04:05 MST"): MOMENT,
    ("Tue, 14 Nov 2023 14:13:20 PST", "Mon, 02 Jan 2006 15:04:05 MST"): MOMENT - 8 * 3600,  # a name that nobody here knows
    ("Tue, 14 Nov 2023 22:13:20 GMT+2", "Mon, 02 Jan 2006 15:04:05 MST"): MOMENT - 2 * 3600,
    ("november 14 2023 10:13:20 pm -0000", "January 2 2006 3:04:05 pm -0700"): MOMENT,
    ("318 2023", "002 2006"): 1699920000,
    ("1970-01-01", "2006-01-02"): 0,
    ("2000-02-29", "2006-01-02"): 951782400,
    ("1600-02-29", "2006-01-02"): -11670998400,
    ("69", "06"): -31536000,
    ("68", "06"): 3092601600,
    ("12AM", "3PM"): -62167219200,  # the year 0, as no other is named
    ("Nov  4 2023", "Jan _2 2006"): 1699056000,
    ("a   b 2023", "a b 2006"): 1672531200,
}


def test_times_from_text(lua: Evaluator) -> None:
    found = {key: lua(f"return time.parse('{key[0]}', '{key[1]}')") for key in PARSED}
    assert found == PARSED


UNPARSED = {
    ("x", "2006"): 'parsing time "x" as "2006": cannot parse "x" as "2006"',
    ("2023-13-01", "2006-01-02"): 'parsing time "2023-13-01": month out of range',
    ("2023-02-29", "2006-01-02"): 'parsing time "2023-02-29": day out of range',
    ("25:00", "15:04"): 'parsing time "25:00": hour out of range',
    ("10:60", "15:04"): 'parsing time "10:60": minute out of range',
    ("2023 x", "2006"): 'parsing time "2023 x": extra text: " x"',
    ("2023/01", "2006-01"): 'parsing time "2023/01" as "2006-01": cannot parse "/01" as "-"',
    ("1", "01"): 'parsing time "1" as "01": cannot parse "1" as "01"',
    ("Foo", "Jan"): 'parsing time "Foo" as "Jan": cannot parse "Foo" as "Jan"',
    ('"', "2006"): 'parsing time "\\"" as "2006": cannot parse "\\"" as "2006"',
    ("10:00 x", "15:04 -0700"): 'parsing time "10:00 x" as "15:04 -0700": cannot parse "x" as "-0700"',
    ("٣", "5"): 'parsing time "٣" as "5": cannot parse "٣" as "5"',
}


def test_times_that_do_not_fit(lua: Evaluator) -> None:
    found = {key: lua(f"return time.parse('{key[0]}', '{key[1]}')") for key in UNPARSED}
    assert found == {key: ["nil", message] for key, message in UNPARSED.items()}


def test_clocks(lua: Evaluator) -> None:
    assert (
        lua("""
        local before, before_ms = time.now(), time.nowMs()
        time.sleep(20) time.sleep(0) time.sleep(-5) time.sleep("1")
        local after_ms = time.nowMs()
        return before % 1 == 0, before_ms % 1 == 0, after_ms - before_ms >= 20, math.abs(before_ms / 1000 - before) < 2
    """)
        == [True] * 4
    )
    assert lua("return os.time() - time.now() < 2")


# -- url ---------------------------------------------------------------------------------------------------------------

URLS: dict[str, dict[str, Any]] = {
    "https://example.com/a/b?x=1#top": {"host": "example.com", "path": "/a/b", "query": {"x": "1"}, "fragment": "top"},
    "HTTP://u:p%40@h:80/": {"scheme": "http", "host": "h:80", "path": "/", "username": "u", "password": "p@"},
    "https://u@h": {"host": "h", "username": "u"},
    "https://h?a=1&a=2&b=x+y%21&c&=d&&%zz=1&e;f=1": {"host": "h", "query": {"a": ["1", "2"], "b": "x y!", "c": "", "": "d"}},
    "https://[::1]:8080/p": {"host": "[::1]:8080", "path": "/p"},
    "/a%20b/../c": {"scheme": "", "path": "/a b/../c"},
    "//h/p": {"scheme": "", "host": "h", "path": "/p"},
    "mailto:a@b": {"scheme": "mailto"},
    "a/b:c": {"scheme": "", "path": "a/b:c"},
    "": {"scheme": ""},
    "#f%41": {"scheme": "", "fragment": "fA"},
}


def test_urls_in_parts(lua: Evaluator) -> None:
    usual: dict[str, Any] = {"scheme": "https", "host": "", "path": "", "query": {}, "fragment": ""}
    assert {text: lua(f"return url.parse('{text}')") for text in URLS} == {text: {**usual, **url} for text, url in URLS.items()}


BROKEN_URLS = {
    "http://h/%zz": 'parse "http://h/%zz": invalid URL escape "%zz"',
    "http://h/%2": 'parse "http://h/%2": invalid URL escape "%2"',
    "http://h:x/": 'parse "http://h:x/": invalid port ":x" after host',
    "http://[::1/": "parse \"http://[::1/\": missing ']' in host",
    "http://a b/": 'parse "http://a b/": invalid character " " in host name',
    ":x": 'parse ":x": missing protocol scheme',
    "1a:b": 'parse "1a:b": first path segment in URL cannot contain colon',
    "http://a\\tb/": 'parse "http://a\tb/": net/url: invalid control character in URL',
    "http://a b@h/": 'parse "http://a b@h/": net/url: invalid userinfo',
}


def test_urls_that_are_none(lua: Evaluator) -> None:
    found = {text: lua(f"return url.parse('{text}')") for text in BROKEN_URLS}
    assert found == {text: ["nil", message] for text, message in BROKEN_URLS.items()}


def test_url_escapes(lua: Evaluator) -> None:
    check(
        lua,
        {
            "url.encode('aZ0-_.~ /?&=+é\\0')": "aZ0-_.~+%2F%3F%26%3D%2B%C3%A9%00",
            "url.decode('a+b%20c%2Fé%c3%a9')": "a b c/éé",
            "url.decode('%zz')": ["nil", 'invalid URL escape "%zz"'],
            "url.decode('a%')": ["nil", 'invalid URL escape "%"'],
            "url.decode('a%4')": ["nil", 'invalid URL escape "%4"'],
            "url.decode(url.encode('\\255\\1')) == '\\255\\1'": True,
        },
    )


# -- strings -----------------------------------------------------------------------------------------------------------


def test_strings(lua: Evaluator) -> None:
    check(
        lua,
        {
            "strings.trim(' \\t\\n\\v\\f\\r a b \\n')": "a b",
            "strings.trim('\\194\\160 é \\226\\128\\131\\227\\128\\128')": "é",
            "strings.trim('   ')": "",
            "strings.trimLeft(' \\t\\r\\n\\v a ')": "\v a ",
            "strings.trimRight(' a \\v \\t\\r\\n')": " a \v",
            "strings.trimRight('  ')": "",
            "strings.split('a,b,,c', ',')": ["a", "b", "", "c"],
            "strings.split('', ',')": [""],
            "strings.split('a.b', '.')": ["a", "b"],
            "strings.split('abab', 'ab')": ["", "", ""],
            "strings.split('aé€😀', '')": ["a", "é", "€", "😀"],
            "#strings.split('a\\255\\195', '')": 3,
            "strings.split('', '')": {},
            "strings.join({ 'a', 1, 0.5, true, {} }, '-')": "a-1-0.5--",
            "strings.join({}, ',')": "",
            "strings.hasPrefix('abc', 'ab')": True,
            "strings.hasPrefix('abc', 'bc')": False,
            "strings.hasPrefix('a', 'abc')": False,
            "strings.hasSuffix('abc', 'bc')": True,
            "strings.hasSuffix('abc', '')": True,
            "strings.hasSuffix('c', 'abc')": False,
            "strings.contains('a.c', '.')": True,
            "strings.contains('abc', '.')": False,
            "strings.contains('abc', '')": True,
            "strings.replace('aaa', 'a', 'b')": "bbb",
            "strings.replace('aaa', 'a', 'b', 2)": "bba",
            "strings.replace('aaa', 'a', 'b', 0)": "aaa",
            "strings.replace('a.a', '.', '%1')": "a%1a",
            "strings.replace('é€', '', '-')": "-é-€-",
            "strings.replace('ab', '', '-', 1)": "-ab",
            "strings.toLower('ÄÖÜ ABC')": "äöü abc",
            "strings.toUpper('éa\\0')": "ÉA\0",
            "strings.toUpper('abc')": "ABC",
            "#strings.toLower('\\255A')": 2,
            "strings.rep('ab', 3)": "ababab",
            "strings['repeat']('ab', 0)": "",
        },
    )
    faults(lua, {"strings.rep('x', -1)": "strings: negative Repeat count"})


# -- random ------------------------------------------------------------------------------------------------------------


def test_randomness(lua: Evaluator) -> None:
    assert set(lua("local t = {} for i = 1, 200 do t[i] = random.int(-1, 1) end return t")) == {-1, 0, 1}
    assert lua("return random.int(7, 7), random.int(2^53, 2^53) == 2^53") == [7, True]
    floats = lua("local t = {} for i = 1, 100 do t[i] = random.float() end return t")
    assert all(0 <= number < 1 for number in floats) and len(set(floats)) == 100
    assert re.fullmatch("[0-9A-Za-z]{500}", lua("return random.string(500)"))
    assert len(base64.b64decode(lua("return random.bytes(33)"))) == 33
    assert re.fullmatch("[0-9a-f]{64}", lua("return random.hex(32)"))
    assert lua("return #random.bytes(1048576), #random.hex(1048576)") == [1398104, 2097152]
    ids = lua("local t = {} for i = 1, 50 do t[i] = random.id() end return t")
    assert all(re.fullmatch("[0-9a-v]{20}", id) for id in ids) and len(set(ids)) == 50
    assert max(id[:7] for id in ids) >= min(id[:7] for id in ids) > "1l00000"
    faults(
        lua,
        {
            "random.int(5, 1)": "bad argument #1 to int (min (5) must be less than or equal to max (1))",
            "random.string(0)": "length must be positive, got 0",
        },
    )
    check(
        lua,
        {
            "random.bytes(0)": ["nil", "length must be positive, got 0"],
            "random.hex(-3)": ["nil", "length must be positive, got -3"],
            "random.hex(1048577)": ["nil", "length must be at most 1048576, got 1048577"],
        },
    )


# -- router ------------------------------------------------------------------------------------------------------------

ROUTES: dict[tuple[str, str], Any] = {
    ("/users/7", "/users/:id"): {"id": "7"},
    ("users//7/", "/users/:id"): {"id": "7"},
    ("/users/a%20b/x", "/users/:id/:what"): {"id": "a%20b", "what": "x"},
    ("/a/b/c", "/a/*"): {},
    ("/a/b", "/:x/*"): {"x": "a"},
    ("", "/"): {},
    ("/", ""): {},
    ("/a", "/*"): {},
    ("/*/b", "/*/b"): {},
    ("/a", "/a/*"): None,
    ("/a", "/a/:x"): None,
    ("/a/b", "/a"): None,
    ("/A", "/a"): None,
    ("/", "/*"): None,
    ("/x/b", "/*/b"): None,
}


def test_routes(lua: Evaluator) -> None:
    for (path, pattern), params in ROUTES.items():
        found = lua(f"return router.match('{path}', '{pattern}'), router.params('{path}', '{pattern}')")
        assert found == [params is not None, params or {}], (path, pattern)


def test_addresses_of_the_function_itself(lua: Evaluator) -> None:
    check(
        lua,
        {
            "router.path('/users/:id', { id = 'a b/ü' })": "/lunar/fn/f1/users/a%20b%2F%C3%BC",
            "router.path('/users/:id/:other', { id = 5 })": "/lunar/fn/f1/users/5/:other",
            "router.path('/x:id/:idx', { id = 1 })": "/lunar/fn/f1/x:id/:idx",
            "router.path('/')": "/lunar/fn/f1/",
            "router.path('a')": "/lunar/fn/f1/a",
            "router.path('')": "/lunar/fn/f1/",
            "router.url('/a/:b', { b = 'c' })": "http://localhost:8080/lunar/fn/f1/a/c",
        },
    )
    context = {"functionId": "f2", "baseUrl": "https://example.com"}
    assert lua("ctx.baseUrl = 'x' return router.path('/'), router.url('/')", ctx=context) == [
        "/fn/f2/",
        "https://example.com/fn/f2/",
    ]
