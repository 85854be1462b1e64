"""Programs that want out of their Lua state, or more than their share (Lunar contract 3.3, 3.4, 7)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.unit.lua import Evaluator, evaluator, program, value

from spinney.errors import Invalid
from spinney.model import Call, Outcome
from spinney.ports import Answer
from spinney.runtimes.lua import LuaRuntime

RUNTIME = LuaRuntime()


class Refusing:
    """A host that does nothing for anybody."""

    def answer(self, call: Call, service: str, method: str, args: bytes, data: bytes) -> Answer:
        raise Invalid("no")


@pytest.fixture
def lua() -> Iterator[Evaluator]:
    with evaluator(Refusing()) as guest:
        yield guest


# -- out of the state --------------------------------------------------------------------------------------------------


def test_what_is_absent(lua: Evaluator) -> None:
    names = """
        io debug ffi jit dofile loadfile python lupa module gcinfo host core os.execute os.exit os.getenv os.remove os.rename
        os.tmpname os.setlocale package.loadlib package.path package.cpath package.loaders package.searchers package.seeall
        package.config package.loaded.io package.loaded.debug package.loaded.jit package.loaded.python package.loaded.ffi
        package.preload.ffi string.dump string.buffer
    """
    found = "local found = {} for _, name in ipairs({ %s }) do "
    found += "if assert(loadstring('return ' .. name))() ~= nil then found[#found + 1] = name end end return found"
    assert lua(found.replace("%s", ", ".join(f"'{name}'" for name in names.split()))) == {}
    assert lua("return pcall(require, 'ffi')") == [False, "module 'ffi' not found"]


WALK = """
local seen, count, odd = {}, 0, {}
local function visit(value, path)
  local kind = type(value)
  if kind == "userdata" or kind == "thread" or kind == "cdata" then odd[#odd + 1] = path .. ": " .. kind end
  if (kind ~= "table" and kind ~= "function") or seen[value] then return end
  seen[value], count = true, count + 1
  if kind == "function" then
    local ok, env = pcall(getfenv, value)
    if ok then visit(env, path .. ":env") end
  else
    for key, item in next, value do
      visit(key, path .. ":key")
      visit(item, path .. "." .. tostring(key))
    end
  end
  local meta = getmetatable(value)
  if meta then visit(meta, path .. ":meta") end
end
visit(_G, "_G")
visit(getmetatable(""), "string")
visit({ ctx, event }, "arguments")
for level = 0, 20 do
  local ok, env = pcall(getfenv, level)
  if ok then visit(env, "level") end
end
return odd, count > 150
"""


def test_nothing_that_can_be_reached_is_a_foreign_object(lua: Evaluator) -> None:
    assert lua(WALK) == [{}, True]


FUZZ = """
local values = {
  nil, true, 0, -1, 1.5, 2 ^ 53, 2 ^ 70, 1 / 0, 0 / 0, "", "x", ("y"):rep(100), "\\0\\255", "%", "{}", {}, { 1, "a" },
  { a = { b = 1 } }, print, function() return {} end, coroutine.create(print), newproxy(true),
  setmetatable({}, { __index = function() error({}) end }),
  setmetatable({}, { __tostring = function() return {} end, __call = print }),
}
local size, calls, odd = 24, 0, {}
local plain = { ["nil"] = true, boolean = true, number = true, string = true, table = true, ["function"] = true }
local function judge(name, ok, ...)
  calls = calls + 1
  for index = 1, select("#", ...) do
    local kind = type((select(index, ...)))
    if not plain[kind] or not ok and kind ~= "string" and kind ~= "table" then odd[#odd + 1] = name .. ": " .. kind end
  end
end
local libraries = {
  "json", "log", "kv", "env", "http", "ai", "email", "base64", "crypto", "time", "random", "strings", "url", "router",
}
for _, library in ipairs(libraries) do
  for name, call in pairs(_G[library]) do
    local sleeps = name == "sleep"
    judge(name, pcall(call))
    for first = 1, size do
      if not (sleeps and type(values[first]) == "number") then
        judge(library .. "." .. name, pcall(call, values[first]))
        for second = 1, size, library == "log" and size or 1 do
          judge(library .. "." .. name, pcall(call, values[first], values[second]))
          judge(library .. "." .. name, pcall(call, values[first], values[second], values[size - second + 1], values[second]))
        end
      end
    end
  end
end
return odd, calls > 20000
"""


def test_library_functions_take_anything_and_say_nothing_odd(lua: Evaluator) -> None:
    assert lua(FUZZ) == [{}, True]


def test_library_functions_do_not_depend_on_what_a_program_can_change(lua: Evaluator) -> None:
    assert lua("""
        local encode, print, tostring, setfenv, type, next, pcall = json.encode, print, tostring, setfenv, type, next, pcall
        local taken = {}
        local function spy(...)
          for index = 1, select("#", ...) do taken[#taken + 1] = (select(index, ...)) end
        end
        local libraries = { json, log, kv, env, http, ai, email, base64, crypto, time, random, strings, url, router }
        local trap = setmetatable({}, { __index = function(_, name) taken[#taken + 1] = name return spy end })
        for index = 1, #libraries do
          for _, call in next, libraries[index] do setfenv(call, trap) end
        end
        for _, call in next, { print, tostring, load, loadstring, require } do setfenv(call, trap) end
        local made = { crypto = crypto, url = url, strings = strings, time = time, random = random, router = router, json = json }
        for name in next, string do string[name] = spy end
        for name in next, table do table[name] = spy end
        for name in next, math do math[name] = spy end
        error, assert, pairs, ipairs, rawget, unpack, getmetatable = spy, spy, spy, spy, spy, spy, spy
        made.crypto.sha256("x") made.url.parse("http://h/?a=1") made.strings.split("a,b", ",") made.time.format(0, "2006")
        made.random.id() made.router.path("/:id", { id = 1 }) made.json.decode('{"a":[1,"x"]}') made.strings.trim(" é ")
        print(1, tostring(0.1)) load("return 1")
        return encode(taken), made.crypto.md5(""), made.json.encode({ "<", 0.1 })
    """) == ["{}", "d41d8cd98f00b204e9800998ecf8427e", '["\\u003c",0.1]']


def test_functions_called_by_the_library_see_nothing_of_it(lua: Evaluator) -> None:
    assert lua("""
        local seen = {}
        local spy = setmetatable({}, { __tostring = function()
          for level = 1, 10 do
            local ok, env = pcall(getfenv, level)
            if ok and env ~= _G and not env.mine then seen[#seen + 1] = level end
          end
          setfenv(2, { mine = true })  -- print's, or what it calls
          return "spied"
        end })
        print(spy) print(spy)
        return seen, crypto.md5("")
    """) == [{}, "d41d8cd98f00b204e9800998ecf8427e"]


def test_the_last_of_the_stack_gives_no_foreign_error(lua: Evaluator) -> None:
    assert lua("""
        local kinds = {}
        local function deeper(depth)
          local ok, fault = pcall(crypto.uuid)
          kinds[type(fault)] = true
          local again, more = pcall(deeper, depth + 1)
          if not again then kinds[type(more)] = true end
        end
        pcall(deeper, 1)
        local function plainly(depth)
          local ok, fault = pcall(random.hex, 3)
          kinds[type(fault)] = true
          return 1 + plainly(depth + 1)
        end
        pcall(plainly, 1)
        return kinds, #crypto.uuid()
    """) == [{"string": True}, 36]


# -- more than a share -------------------------------------------------------------------------------------------------

ENDLESS = {
    "loop": "while true do end",
    "compiled loop": "local n = 0 for i = 1, 1e18 do n = n + i % 7 end return { body = n }",
    "loop that catches": "while true do pcall(function() while true do error('x') end end) end",
    "loop in an error handler": "xpcall(error, function() while true do end end)",
    "loop in a coroutine": "coroutine.wrap(function() while true do coroutine.wrap(coroutine.yield)() end end)()",
    "pattern": "return { body = string.find(('a'):rep(60), ('a*'):rep(40) .. 'b') }",
    "concatenation": "local s = ('x'):rep(1000) while true do local t = s .. os.clock() end",
    "finalizer": "getmetatable(newproxy(true)).__gc = function() while true do end end return {}",
    "text of an error": "error(setmetatable({}, { __tostring = function() while true do end end }))",
    "field of the answer": "return setmetatable({}, { __index = function() while true do end end })",
    "sort": "local t = {} for i = 1, 1e6 do t[i] = i end while true do table.sort(t, function(a, b) return a > b end) end",
    "sleep": "time.sleep(1 / 0)",
    "top level": "return {} end while true do end do",
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_never_ends_is_ended(name: str) -> None:
    with program(f"function handler() {ENDLESS[name]} end") as loaded:
        assert loaded.call(timeout_s=0.4).outcome is Outcome.TIMEOUT


HUNGRY = {
    "table": "local t = {} for i = 1, 1e9 do t[i] = i end",
    "tables": "local t = {} while true do t = { t } end",
    "string": "local s = 'x' while true do s = s .. s end",
    "strings": "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1000) .. i end",
    "string.rep": "return { body = ('x'):rep(2 ^ 30) }",
    "strings.rep": "return { body = strings.rep('x', 2 ^ 40) }",
    "concat": "local t = {} for i = 1, 1000 do t[i] = ('x'):rep(2 ^ 20) end return { body = table.concat(t) }",
    "format": "local t = {} while true do t[#t + 1] = string.format('%099d%s', 1, #t):rep(100) end",
    "closures": "local f while true do local g = f f = function() return g end end",
    "coroutines": "local t = {} while true do t[#t + 1] = coroutine.create(function() end) end",
    "coroutines in coroutines": "local function f() return coroutine.wrap(f)() end f()",
    "without collecting": "collectgarbage('stop') while true do kept = {} end",
    "answers of the host": "local t = {} while true do t[#t + 1] = random.hex(2 ^ 20) end",
    "logged": "local s = 'x' while true do s = s .. s log.info(s) end",
    "raised again": "local ok, fault = pcall(function() local s = 'x' while true do s = s .. s end end) error(fault)",
    "finalizers": "while true do getmetatable(newproxy(true)).__gc = function() all = { all, ('x'):rep(100) } end end",
    "top level": "end local s = 'x' while true do s = s .. s end do",
}


@pytest.mark.parametrize("name", HUNGRY)
def test_what_fills_its_memory_ends_as_such(name: str) -> None:
    with program(f"function handler() {HUNGRY[name]} end") as loaded:
        reply = loaded.call()
        assert reply.outcome is Outcome.EXITED and reply.exit_code is not None
        assert RUNTIME.explain(reply.exit_code, []) is Outcome.OUT_OF_MEMORY


def test_a_full_memory_can_be_caught(lua: Evaluator) -> None:
    assert lua("""
        local before = collectgarbage("count")
        local ok, fault = pcall(function() local t = {} while true do t[#t + 1] = ("x"):rep(1e6) .. #t end end)
        collectgarbage()
        local hex_ok, hex_fault = pcall(function() local t = {} while true do t[#t + 1] = random.hex(2 ^ 20) end end)
        collectgarbage()
        return ok, fault, hex_ok, hex_fault, collectgarbage("count") < before + 20000
    """) == [False, "not enough memory", False, "not enough memory", True]


def test_memory_is_there_to_be_used(lua: Evaluator) -> None:
    """Of 128 MB a program may hold nearly all, and go on making garbage."""
    assert lua("""
        local kept = {}
        for index = 1, 105 do kept[index] = ("x"):rep(2 ^ 20 - 100) .. index end
        local garbage = 0
        for index = 1, 300 do garbage = garbage + #(("y"):rep(2 ^ 20) .. index) end
        return #kept, garbage > 300 * 2 ^ 20
    """) == [105, True]
    assert (
        lua("""
        local kept = {}
        for index = 1, 1200000 do kept[index] = { index } end
        for index = 1, 3000000 do local garbage = { index } end
        return #kept
    """)
        == 1200000
    )


OVERFLOWS = {
    "calls": "local function f() return 1 + f() end f()",
    "pcall": "local function f() local ok, fault = pcall(f) if not ok then error(fault, 0) end end f()",
    "metamethods": "local t = setmetatable({}, { __index = function(t, k) local v = t[k] return v end }) return t.x",
    "index chain": "local t = {} setmetatable(t, { __index = t }) return t.x",
    "sort": "local function f() table.sort({ 1, 2, 3 }, f) end f()",
    "tostring": "local t = setmetatable({}, { __tostring = function(t) return tostring(t) .. 'x' end }) return tostring(t)",
    "load": "local function f() return load(f) end error(select(2, f()))",
    "parser": "assert(loadstring(('('):rep(100000)))",
    "nested tables": "assert(loadstring('return ' .. ('{'):rep(100000)))",
    "unpack": "return unpack({}, 1, 1e8)",
    "concat of many": "return ('x'):rep(1e7):byte(1, -1)",
    "captures": "return ('x'):find(('()'):rep(100))",
    "format": "return string.format('%1000d', 1)",
    "finder": "return ('a'):rep(1e6):find(('(a'):rep(40))",
}


def test_what_goes_too_deep_is_an_error(lua: Evaluator) -> None:
    for lines in OVERFLOWS.values():
        assert len(lua.fails(lines)) > 5, lines
    assert lua("return 1") == 1


def test_calls_through_the_virtual_machine_itself_go_deep(lua: Evaluator) -> None:
    """Each takes some kilobytes of the process's own stack."""
    assert lua("local n = 0 local function f() n = n + 1 if n < 2000 then ('x'):gsub('x', f) end end f() return n") == 2000


def test_finalizers_and_the_host_do_not_hurt_each_other(lua: Evaluator) -> None:
    assert (
        lua("""
        local runs = 0
        local function rearm()
          local proxy = newproxy(true)
          getmetatable(proxy).__gc = function()
            runs = runs + 1
            pcall(crypto.sha256, ("x"):rep(runs % 1000))
            pcall(kv.get, "k")
            pcall(coroutine.wrap(function() random.hex(10) coroutine.yield() end))
            rearm()
            error("in a finalizer")
          end
        end
        for _ = 1, 20 do rearm() end
        for index = 1, 3000 do
          crypto.md5(("y"):rep(1000) .. index)
          if index % 100 == 0 then collectgarbage() end
        end
        return runs > 100
    """)
        is True
    )


def test_a_finalizer_that_takes_the_room_of_an_answer() -> None:
    """It can only hurt its own call."""
    source = """
        function handler()
          local hoard = {}
          local function arm()
            local proxy = newproxy(true)
            getmetatable(proxy).__gc = function()
              pcall(function() while true do hoard[#hoard + 1] = ("x"):rep(2 ^ 16) .. #hoard end end)
            end
          end
          for _ = 1, 100 do arm() end
          for _ = 1, 50 do pcall(random.hex, 2 ^ 20) end
          return { body = "survived" }
        end
    """
    with program(source) as loaded:
        reply = loaded.call(timeout_s=1.0)
        assert reply.body == b"survived" or reply.outcome in (Outcome.EXITED, Outcome.TIMEOUT), reply


def test_library_functions_work_in_coroutines(lua: Evaluator) -> None:
    assert lua("""
        local made = coroutine.wrap(function()
          for index = 1, 3 do
            coroutine.yield(json.encode({ index, crypto.md5("") ~= "", pcall(kv.get, "x") }))
          end
        end)
        return made(), made(), made()
    """) == ["[1,true,true]", "[2,true,true]", "[3,true,true]"]


def test_tables_that_json_cannot_swallow_cost_little(lua: Evaluator) -> None:
    assert lua("""
        local chain, wide = {}, {}
        for _ = 1, 200000 do chain = { chain } end
        for index = 1, 100000 do wide[index] = wide end
        local _, first = json.encode(chain)
        local _, second = json.encode(wide)
        local _, third = json.encode({ [1] = 1, [2 ^ 52] = 2 })
        local _, fourth = json.decode(('{"a":['):rep(300000))
        return first, second, third, fourth
    """) == [
        "json: exceeded max depth",
        "json: unsupported value: encountered a cycle",
        "json: unsupported value: table is too sparse",
        "exceeded max depth",
    ]


def test_calls_of_one_sandbox_do_not_see_each_other() -> None:
    source = """
        local mine = { secret, string.secret, json.secret, package.loaded.secret, ("x").secret, math.pi == 3 }
        function handler(ctx, event)
          secret, string.secret, json.secret, package.loaded.secret, math.pi = event.body, event.body, event.body, event.body, 3
          local found = 0
          for _ in pairs(mine) do found = found + 1 end
          return { body = json.encode({ found, event.body }) }
        end
    """
    with program(source) as loaded:
        for number in range(50):
            assert value(loaded.call(str(number))) == [1, str(number)]
