-- Paths of a function, and addresses of its own (Lunar contract 3.8).
local core = ...
local byte, concat, format, gmatch, gsub, match, option, str, sub, type =
  string.byte, table.concat, string.format, string.gmatch, string.gsub, string.match, core.option, core.str, string.sub, type

local router = {}

local function split(path)
  local parts, count = {}, 0
  for part in gmatch(path, "[^/]+") do
    count = count + 1
    parts[count] = part
  end
  return parts, count
end

-- The parameters of a path that fits the pattern; nil when it does not.
local function fit(path, pattern)
  local parts, count = split(path)
  local wanted, wanted_count = split(pattern)
  local params = {}
  for index = 1, wanted_count do
    local want, part = wanted[index], parts[index]
    if want == "*" and index == wanted_count then return part and params end
    if not part then return nil end
    if byte(want) == 58 then params[sub(want, 2)] = part
    elseif want ~= part then return nil end
  end
  return count == wanted_count and params or nil
end

function router.match(path, pattern)
  return fit(str(path, 1, "match"), str(pattern, 2, "match")) ~= nil
end

function router.params(path, pattern)
  return fit(str(path, 1, "params"), str(pattern, 2, "params")) or {}
end

local function escape(character)
  return format("%%%02X", byte(character))
end

local function fill(pattern, params)
  if type(params) == "table" then
    pattern = gsub(pattern, "[^/]+", function(part)
      local value = byte(part) == 58 and params[sub(part, 2)]
      if type(value) == "string" or type(value) == "number" then
        return (gsub(option(value), "[^%w%-_.~$&+=:@]", escape))
      end
    end)
  end
  return byte(pattern) == 47 and pattern or "/" .. pattern
end

function router.path(pattern, params)
  local base = match(core.context.baseUrl, "^%a[%w+.-]*://[^/]*(.*)$") or core.context.baseUrl
  return base .. "/fn/" .. core.context.functionId .. fill(str(pattern, 1, "path"), params)
end

function router.url(pattern, params)
  return core.context.baseUrl .. "/fn/" .. core.context.functionId .. fill(str(pattern, 1, "url"), params)
end

return router
