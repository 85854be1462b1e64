-- base64.encode, base64.decode (Lunar contract 3.6).
local core = ...
local ask, str = core.ask, core.str

local base64 = {}

function base64.encode(text)
  return ask("base64.encode", str(text, 1, "encode"))
end

function base64.decode(text)
  return ask("base64.decode", str(text, 1, "decode"))
end

return base64
