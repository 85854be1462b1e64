-- Digests, message authentication, UUIDs (Lunar contract 3.6).
local core = ...
local ask, str = core.ask, core.str

local crypto = {}

for _, name in ipairs({ "md5", "sha1", "sha256", "sha512" }) do
  crypto[name] = function(text)
    return ask("crypto.digest", name, str(text, 1, name))
  end
end

for _, name in ipairs({ "sha1", "sha256", "sha512" }) do
  local full = "hmac_" .. name
  crypto[full] = function(message, key)
    return ask("crypto.hmac", name, str(message, 1, full), str(key, 2, full))
  end
end

function crypto.uuid()
  return ask("crypto.uuid")
end

-- Whether two texts are the same, in a time that does not tell where they differ.
function crypto.equal(a, b)
  return ask("crypto.equal", str(a, 1, "equal"), str(b, 2, "equal")) == 1
end

return crypto
