-- Texts (Lunar contract 3.7). What only concerns ASCII is done here, the rest of Unicode by the host's half.
local core = ...
local ask, byte, concat, error, find, int, lower, match, option, rep, sequence, str, sub, tab, upper =
  core.ask, string.byte, table.concat, error, string.find, core.int, string.lower, string.match, core.option, string.rep,
  core.sequence, core.str, string.sub, core.tab, string.upper

local BEYOND_ASCII = "[\128-\255]"
local BYTES_MAX = 2^31

local strings = {}

function strings.trim(text)
  text = str(text, 1, "trim")
  if find(text, BEYOND_ASCII) then return ask("strings.trim", text) end
  local first = find(text, "%S")
  return first and match(text, "^.*%S", first) or ""
end

function strings.trimLeft(text)
  return match(str(text, 1, "trimLeft"), "^[ \t\r\n]*(.*)$")
end

function strings.trimRight(text)
  return match(str(text, 1, "trimRight"), "^.*[^ \t\r\n]") or ""
end

-- A text's characters; a byte that belongs to none counts as one.
local function characters(text)
  local parts, count, at = {}, 0, 1
  while at <= #text do
    local character = byte(text, at) >= 128 and sequence(text, at) or sub(text, at, at)
    count = count + 1
    parts[count] = character
    at = at + #character
  end
  return parts
end

function strings.split(text, separator)
  text, separator = str(text, 1, "split"), str(separator, 2, "split")
  if separator == "" then return characters(text) end
  local parts, count, at = {}, 0, 1
  while true do
    local first, last = find(text, separator, at, true)
    count = count + 1
    parts[count] = sub(text, at, (first or 0) - 1)
    if not first then return parts end
    at = last + 1
  end
end

function strings.join(array, separator)
  array, separator = tab(array, 1, "join"), str(separator, 2, "join")
  local parts = {}
  for index = 1, #array do
    parts[index] = option(array[index])
  end
  return concat(parts, separator)
end

function strings.hasPrefix(text, prefix)
  text, prefix = str(text, 1, "hasPrefix"), str(prefix, 2, "hasPrefix")
  return sub(text, 1, #prefix) == prefix
end

function strings.hasSuffix(text, suffix)
  text, suffix = str(text, 1, "hasSuffix"), str(suffix, 2, "hasSuffix")
  return suffix == "" or sub(text, -#suffix) == suffix
end

function strings.contains(text, part)
  return find(str(text, 1, "contains"), str(part, 2, "contains"), 1, true) ~= nil
end

function strings.replace(text, old, new, count)
  text, old, new = str(text, 1, "replace"), str(old, 2, "replace"), str(new, 3, "replace")
  return ask("strings.replace", text, old, new, count == nil and -1 or int(count, 4, "replace"))
end

function strings.toLower(text)
  text = str(text, 1, "toLower")
  return find(text, BEYOND_ASCII) and ask("strings.lower", text) or lower(text)
end

function strings.toUpper(text)
  text = str(text, 1, "toUpper")
  return find(text, BEYOND_ASCII) and ask("strings.upper", text) or upper(text)
end

strings["repeat"] = function(text, count)
  text, count = str(text, 1, "repeat"), int(count, 2, "repeat")
  if count < 0 then error("strings: negative Repeat count", 2) end
  if #text * count >= BYTES_MAX then error(core.MESSAGE_NO_MEMORY, 0) end  -- the VM would count in 32 bits
  return rep(text, count)
end
strings.rep = strings["repeat"]

return strings
