-- Randomness that cannot be foreseen (Lunar contract 3.8).
local core = ...
local ask, error, format, int, text = core.ask, error, string.format, core.int, core.text

local BYTES_MAX = 1048576

local random = {}

-- The argument when it is a length; nil and a message when it is none.
local function length(value, name)
  local count = int(value, 1, name)
  if count <= 0 then return nil, "length must be positive, got " .. text(count) end
  if count > BYTES_MAX then return nil, "length must be at most " .. BYTES_MAX .. ", got " .. text(count) end
  return count
end

function random.int(min, max)
  min, max = int(min, 1, "int"), int(max, 2, "int")
  if min > max then
    error(format("bad argument #1 to int (min (%s) must be less than or equal to max (%s))", text(min), text(max)), 2)
  end
  return ask("random.int", min, max)
end

function random.float()
  return ask("random.float")
end

function random.string(count)
  local size, fault = length(count, "string")
  if not size then error(fault, 2) end
  return ask("random.string", size)
end

function random.bytes(count)
  local size, fault = length(count, "bytes")
  if not size then return nil, fault end
  return ask("random.bytes", size)
end

function random.hex(count)
  local size, fault = length(count, "hex")
  if not size then return nil, fault end
  return ask("random.hex", size)
end

function random.id()
  return ask("random.id")
end

return random
