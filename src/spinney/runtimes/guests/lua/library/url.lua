-- Addresses (Lunar contract 3.7).
local core = ...
local ask, format, gsub, byte, str = core.ask, string.format, string.gsub, string.byte, core.str

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

-- The host's half says all parts in one JSON text.
function url.parse(text)
  local parts, fault = ask("url.parse", str(text, 1, "parse"))
  if not parts then return nil, fault end
  return core.decode(parts)
end

return url
