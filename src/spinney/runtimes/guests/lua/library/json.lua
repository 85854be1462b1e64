-- json.encode, json.decode (Lunar contract 3.6).
local core = ...
local byte, char, concat, error, find, floor, format, gsub, match, next, pcall, rawget, select, sort, sub, tonumber, type =
  string.byte, string.char, table.concat, error, string.find, math.floor, string.format, string.gsub, string.match, next, pcall,
  rawget, select, table.sort, string.sub, tonumber, type
local plain, sequence, shortest, str = core.plain, core.sequence, core.shortest, core.str

local DEPTH_MAX = 1000

-- Encoding ------------------------------------------------------------------------------------------------------------

local ESCAPES = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\b"] = "\\b", ["\f"] = "\\f" }

local function escape(character)
  return ESCAPES[character] or format("\\u%04x", byte(character))
end

local function clean(run)
  local parts, at = {}, 1
  while at <= #run do
    local valid = sequence(run, at)
    if valid == "\226\128\168" then parts[#parts + 1] = "\\u2028"
    elseif valid == "\226\128\169" then parts[#parts + 1] = "\\u2029"
    else parts[#parts + 1] = valid or "\\ufffd" end
    at = at + (valid and #valid or 1)
  end
  return concat(parts)
end

local function quote(text)
  if find(text, '[%z\1-\31"\\<>&\128-\255]') then
    text = gsub(text, '[%z\1-\31"\\<>&]', escape)
    if find(text, "[\128-\255]") then text = gsub(text, "[\128-\255]+", clean) end
  end
  return '"' .. text .. '"'
end

local function number(value)
  if value == floor(value) and value < 2^53 and value > -2^53 then return format("%d", value) end
  if value ~= value then error({ "json: unsupported value: NaN" }) end
  if value == 1/0 then error({ "json: unsupported value: +Inf" }) end
  if value == -1/0 then error({ "json: unsupported value: -Inf" }) end
  local digits = shortest(value)
  local size = value < 0 and -value or value
  if size < 1e21 and size >= 1e-6 then return plain(digits) end
  return (gsub(digits, "e%-0", "e-"))
end

-- The largest index when a table is an array; nil when it is an object.
local function length(value)
  local largest, count = 0, 0
  for key in next, value do
    if type(key) ~= "number" or key < 1 or key ~= floor(key) then return nil end
    if key > largest then largest = key end
    count = count + 1
  end
  if count == 0 then return nil end
  if largest > 2 * count + 1000 then error({ "json: unsupported value: table is too sparse" }) end
  return largest
end

local write

local function write_array(value, size, parts, depth, path)
  local count = #parts + 1
  parts[count] = "["
  for index = 1, size do
    if index > 1 then parts[#parts + 1] = "," end
    write(rawget(value, index), parts, depth, path)
  end
  parts[#parts + 1] = "]"
end

local function write_object(value, parts, depth, path)
  local keys, count = {}, 0
  for key in next, value do
    if type(key) == "string" then
      count = count + 1
      keys[count] = key
    end
  end
  sort(keys)
  parts[#parts + 1] = "{"
  for index = 1, count do
    local key = keys[index]
    parts[#parts + 1] = (index > 1 and "," or "") .. quote(key) .. ":"
    write(rawget(value, key), parts, depth, path)
  end
  parts[#parts + 1] = "}"
end

function write(value, parts, depth, path)
  local kind = type(value)
  if kind == "string" then
    parts[#parts + 1] = quote(value)
  elseif kind == "number" then
    parts[#parts + 1] = number(value)
  elseif kind == "boolean" then
    parts[#parts + 1] = value and "true" or "false"
  elseif kind == "table" then
    if path[value] then error({ "json: unsupported value: encountered a cycle" }) end
    if depth == DEPTH_MAX then error({ "json: exceeded max depth" }) end
    path[value] = true
    local size = length(value)
    if size then write_array(value, size, parts, depth + 1, path) else write_object(value, parts, depth + 1, path) end
    path[value] = nil
  else
    parts[#parts + 1] = "null"
  end
end

-- What a protected function says: its value, or nil and the text of an error of ours; any other error goes on.
local function conclude(ok, value)
  if ok then return value end
  if type(value) == "table" then return nil, value[1] end
  error(value, 0)
end

local function encode(value)
  local parts = {}
  write(value, parts, 0, {})
  return concat(parts)
end

-- Decoding ------------------------------------------------------------------------------------------------------------

local NAMES = { ['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }

-- A character as error messages show it.
local function show(character)
  if character == "'" then return [['\'']] end
  if find(character, "[%z\1-\31\127-\255]") then return format("'\\x%02x'", byte(character)) end
  return "'" .. character .. "'"
end

local function fail(text, at, where)
  if at > #text then error({ "unexpected end of JSON input" }) end
  error({ "invalid character " .. show(sub(text, at, at)) .. " " .. where })
end

local function utf8(code)
  if code < 0x80 then return char(code) end
  if code < 0x800 then return char(0xC0 + floor(code / 64), 0x80 + code % 64) end
  if code < 0x10000 then return char(0xE0 + floor(code / 4096), 0x80 + floor(code / 64) % 64, 0x80 + code % 64) end
  return char(0xF0 + floor(code / 262144), 0x80 + floor(code / 4096) % 64, 0x80 + floor(code / 64) % 64, 0x80 + code % 64)
end

-- The four digits of a \u escape.
local function code_unit(text, at)
  local digits = match(text, "^%x%x%x%x", at)
  if not digits then
    fail(text, find(text, "[^%x]", at) or #text + 1, "in \\u hexadecimal character escape")
  end
  return tonumber(digits, 16)
end

-- The escape whose backslash is at this place: its text, and what is behind it. Half of a surrogate pair becomes U+FFFD.
local function read_escape(text, at)
  local name = sub(text, at + 1, at + 1)
  if NAMES[name] then return NAMES[name], at + 2 end
  if name ~= "u" then fail(text, at + 1, "in string escape code") end
  local code = code_unit(text, at + 2)
  if code >= 0xD800 and code < 0xDC00 and find(text, "^\\u[dD][c-fC-F]", at + 6) then
    return utf8(0x10000 + (code - 0xD800) * 1024 + code_unit(text, at + 8) - 0xDC00), at + 12
  end
  if code >= 0xD800 and code < 0xE000 then code = 0xFFFD end
  return utf8(code), at + 6
end

-- The string whose first character behind the quote is at this place.
local function read_string(text, at)
  local stop = find(text, '[%z\1-\31"\\]', at)
  if not stop then fail(text, #text + 1) end
  if byte(text, stop) == 34 then return sub(text, at, stop - 1), stop + 1 end
  local parts = {}
  while true do
    parts[#parts + 1] = sub(text, at, stop - 1)
    local code = byte(text, stop)
    if code == 34 then return concat(parts), stop + 1 end
    if code ~= 92 then fail(text, stop, "in string literal") end
    parts[#parts + 1], at = read_escape(text, stop)
    stop = find(text, '[%z\1-\31"\\]', at)
    if not stop then fail(text, #text + 1) end
  end
end

local function read_number(text, at)
  local digits = match(text, "^-?%d+", at)
  if not digits then fail(text, at + 1, "in numeric literal") end
  local stop = at + #digits
  if find(digits, "^-?0%d") then
    stop = find(text, "0", at, true) + 1
    return tonumber(sub(text, at, stop - 1)), stop
  end
  if byte(text, stop) == 46 then
    local last = match(text, "^%.%d+()", stop)
    if not last then fail(text, stop + 1, "after decimal point in numeric literal") end
    stop = last
  end
  if find(text, "^[eE]", stop) then
    local last = match(text, "^[eE][-+]?%d+()", stop)
    if not last then fail(text, match(text, "^[eE][-+]?()", stop), "in exponent of numeric literal") end
    stop = last
  end
  local value = tonumber(sub(text, at, stop - 1))
  if value == 1/0 or value == -1/0 then fail(text, at, "in numeric literal: out of range") end
  return value, stop
end

local read

local function skip(text, at)
  return find(text, "[^ \t\r\n]", at) or #text + 1
end

local function read_array(text, at, depth)
  local value, index = {}, 0
  at = skip(text, at)
  if byte(text, at) == 93 then return value, at + 1 end
  while true do
    index = index + 1
    value[index], at = read(text, at, depth)
    at = skip(text, at)
    local code = byte(text, at)
    if code == 93 then return value, at + 1 end
    if code ~= 44 then fail(text, at, "after array element") end
    at = skip(text, at + 1)
  end
end

local function read_object(text, at, depth)
  local value, key = {}, nil
  at = skip(text, at)
  if byte(text, at) == 125 then return value, at + 1 end
  while true do
    if byte(text, at) ~= 34 then fail(text, at, "looking for beginning of object key string") end
    key, at = read_string(text, at + 1)
    at = skip(text, at)
    if byte(text, at) ~= 58 then fail(text, at, "after object key") end
    value[key], at = read(text, skip(text, at + 1), depth)
    at = skip(text, at)
    local code = byte(text, at)
    if code == 125 then return value, at + 1 end
    if code ~= 44 then fail(text, at, "after object key:value pair") end
    at = skip(text, at + 1)
  end
end

local WORDS = { [116] = { "true", true }, [102] = { "false", false }, [110] = { "null", nil } }

local function read_word(text, at, word)
  local name = word[1]
  for index = 2, #name do
    if byte(text, at + index - 1) ~= byte(name, index) then
      fail(text, at + index - 1, format("in literal %s (expecting '%s')", name, sub(name, index, index)))
    end
  end
  return word[2], at + #name
end

-- The value that begins at this place, and what is behind it.
function read(text, at, depth)
  local code = byte(text, at)
  if code == 34 then return read_string(text, at + 1) end
  if code == 123 or code == 91 then
    if depth == DEPTH_MAX then error({ "exceeded max depth" }) end
    if code == 123 then return read_object(text, at + 1, depth + 1) end
    return read_array(text, at + 1, depth + 1)
  end
  if code and (code == 45 or code >= 48 and code <= 57) then return read_number(text, at) end
  local word = WORDS[code or 0]
  if word then return read_word(text, at, word) end
  fail(text, at, "looking for beginning of value")
end

local function decode(text)
  local value, at = read(text, skip(text, 1), 0)
  at = skip(text, at)
  if at <= #text then fail(text, at, "after top-level value") end
  return value
end

local json = {}

function json.encode(...)
  if select("#", ...) == 0 then error("bad argument #1 to encode (value expected)", 2) end
  return conclude(pcall(encode, (...)))
end

function json.decode(text)
  return conclude(pcall(decode, str(text, 1, "decode")))
end

core.encode, core.decode = json.encode, json.decode
return json
