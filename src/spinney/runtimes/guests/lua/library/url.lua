-- Addresses (Lunar contract 3.7).
local core = ...
local ask, byte, format, gsub, str, sub, type, u32 =
  core.ask, string.byte, string.format, string.gsub, core.str, string.sub, type, core.u32

local url = {}

local function escape(character)
  return character == " " and "+" or format("%%%02X", byte(character))
end

function url.encode(text)
  return (gsub(str(text, 1, "encode"), "[^%w%-_.~]", escape))
end

function url.decode(text)
  return ask("url.decode", str(text, 1, "decode"))
end

-- All parts come in one text, each behind its length.
local function split(text)
  local parts, count, at = {}, 0, 1
  while at <= #text do
    local stop = at + 4 + u32(text, at)
    count = count + 1
    parts[count] = sub(text, at + 4, stop - 1)
    at = stop
  end
  return parts, count
end

local function read_query(parts, count)
  local query = {}
  for index = 8, count, 2 do
    local name, value = parts[index], parts[index + 1]
    local before = query[name]
    if before == nil then query[name] = value
    elseif type(before) == "table" then before[#before + 1] = value
    else query[name] = { before, value } end
  end
  return query
end

function url.parse(text)
  local answer, fault = ask("url.parse", str(text, 1, "parse"))
  if not answer then return nil, fault end
  local parts, count = split(answer)
  local user = parts[5]
  return {
    scheme = parts[1], host = parts[2], path = parts[3], fragment = parts[4], query = read_query(parts, count),
    username = user ~= "" and parts[6] or nil, password = user == "up" and parts[7] or nil,
  }
end

return url
