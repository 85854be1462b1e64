-- What the functions of the library share: text of numbers, checks of arguments, questions to the host (Lunar contract 3.4).
--
-- Every file here is the body of a function that gets `core` and returns its table. Programs may change any table, metatable or
-- function environment that they can reach, so functions here use locals only, and none but `ask` knows the host.
local core, host = ...
debug.getmetatable(host).__metatable = false
local byte, error, floor, format, match, rep, tonumber, type =
  string.byte, error, math.floor, string.format, string.match, string.rep, tonumber, type
local MESSAGE_NO_MEMORY = "not enough memory"

-- The shortest digits that read back equal, as %g writes them.
local function shortest(number)
  local from = (number < 2.3e-308 and number > -2.3e-308) and 1 or 15
  for precision = from, 17 do
    local digits = format("%." .. precision .. "g", number)
    if tonumber(digits) == number then return digits end
  end
end

-- Digits with an exponent as digits without.
local function plain(digits)
  local sign, first, rest, exponent = match(digits, "^(-?)(%d)%.?(%d*)e([-+]%d+)$")
  if not first then return digits end
  exponent = tonumber(exponent)
  if exponent < 0 then return sign .. "0." .. rep("0", -exponent - 1) .. first .. rest end
  return sign .. first .. rest .. rep("0", exponent - #rest)
end

-- A number as `tostring` and the host write it.
local function text(number)
  if number == floor(number) and number < 2^63 and number > -2^63 then return format("%d", number) end
  if number ~= number then return "NaN" end
  if number == 1/0 then return "+Inf" end
  if number == -1/0 then return "-Inf" end
  local digits = shortest(number)
  return (number < 1e21 and number > -1e21 and (number >= 1 or number <= -1)) and plain(digits) or digits
end

-- The character of more than one byte that begins at this place; nil when it is not valid UTF-8.
local function sequence(run, at)
  local first = byte(run, at)
  if first < 0xE0 then return match(run, "^[\194-\223][\128-\191]", at) end
  if first == 0xE0 then return match(run, "^\224[\160-\191][\128-\191]", at) end
  if first == 0xED then return match(run, "^\237[\128-\159][\128-\191]", at) end
  if first < 0xF0 then return match(run, "^[\225-\239][\128-\191][\128-\191]", at) end
  if first == 0xF0 then return match(run, "^\240[\144-\191][\128-\191][\128-\191]", at) end
  if first == 0xF4 then return match(run, "^\244[\128-\143][\128-\191][\128-\191]", at) end
  return match(run, "^[\241-\243][\128-\191][\128-\191][\128-\191]", at)
end

-- Arguments of library functions; an error names the line of the program that called.

local function str(value, position, name)
  local kind = type(value)
  if kind == "string" then return value end
  if kind == "number" then return text(value) end
  error(format("bad argument #%d to %s (string expected, got %s)", position, name, kind), 3)
end

local function num(value, position, name)
  local kind = type(value)
  if kind == "number" then return value end
  local number = kind == "string" and tonumber(value)
  if number then return number end
  error(format("bad argument #%d to %s (number expected, got %s)", position, name, kind), 3)
end

local function tab(value, position, name)
  if type(value) == "table" then return value end
  error(format("bad argument #%d to %s (table expected, got %s)", position, name, type(value)), 3)
end

-- A whole number; what does not fit counts as the nearest that does.
local function int(value, position, name)
  local number = type(value) == "string" and tonumber(value) or value
  if type(number) ~= "number" then
    error(format("bad argument #%d to %s (number expected, got %s)", position, name, type(value)), 3)
  end
  if number ~= number then return 0 end
  if number > 2^53 then return 2^53 end
  if number < -2^53 then return -2^53 end
  return number < 0 and -floor(-number) or floor(number)
end

-- What an option or a header says: strings and numbers as text, anything else as nothing.
local function option(value)
  local kind = type(value)
  if kind == "string" then return value end
  return kind == "number" and text(value) or ""
end

local function pass(answer, ...)
  if answer == false then error(MESSAGE_NO_MEMORY, 0) end
  return answer, ...
end

-- Ask the host; it says false when its answer finds no room in this state.
local function ask(...)
  return pass(host(...))
end

-- The number in four bytes of an answer.
function core.u32(data, at)
  local a, b, c, d = byte(data, at, at + 3)
  return a + b * 256 + c * 65536 + d * 16777216
end

-- Ask a service of the server: the JSON text of what it says, and the bytes beside it; nil and a message when it refuses.
-- `args` is JSON text too.
function core.service(name, method, args, data)
  return ask("service", name, method, args, data or "")
end

local function nobody()
  error("the run has ended", 0)
end

core.closed = false

-- From now on there is no host, whatever still runs. Takes no memory, for there may be none.
function core.close()
  core.closed = true
  host = nobody
end

core.sequence, core.shortest, core.plain, core.text, core.str, core.num, core.tab, core.int, core.option, core.ask =
  sequence, shortest, plain, text, str, num, tab, int, option, ask
core.MESSAGE_NO_MEMORY = MESSAGE_NO_MEMORY
