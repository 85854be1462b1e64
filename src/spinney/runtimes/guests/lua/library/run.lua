-- One run: the event's tables, the program, its handler, and the answer as the host's half takes it (Lunar contract 3.1, 3.2).
local core, program = ...
local concat, floor, getinfo, getmetatable, gsub, load, lower, next, option, pcall, randomseed, rawget, setmetatable, text, tonumber,
  tostring, type, xpcall =
  table.concat, math.floor, debug.getinfo, getmetatable, string.gsub, load, string.lower, next, core.option, pcall, math.randomseed,
  rawget, setmetatable, core.text, tonumber, tostring, type, xpcall

local G = _G
local FRAMES_MAX = 20
local CHUNK = "<string>"

-- Answers: a number that says what this is, then what belongs to it.
local ANSWERED, FAILED, NO_HANDLER, BAD_RESULT = 0, 1, 3, 4

-- Failures ------------------------------------------------------------------------------------------------------------

-- An error's text: no address of anything, whatever it is.
local function describe(value)
  local kind = type(value)
  if kind == "string" then return value end
  if kind == "number" then return text(value) end
  if kind == "nil" or kind == "boolean" then return tostring(value) end
  if kind ~= "table" then return kind end
  local meta = getmetatable(value)
  if type(meta) == "table" and rawget(meta, "__tostring") ~= nil then
    local ok, said = pcall(tostring, value)
    return ok and type(said) == "string" and said or kind
  end
  local ok, json = pcall(core.encode, value)
  return ok and json or kind
end

-- Where the program was, frame by frame; the library's frames and the VM's are nobody's business.
local function trace()
  local lines = {}
  for level = 2, 200 do
    local frame = getinfo(level, "Sln")
    if not frame or #lines == FRAMES_MAX then break end
    if frame.short_src == CHUNK then
      local place = frame.what == "main" and "in main chunk"
        or frame.name and "in function '" .. frame.name .. "'" or "in function <" .. CHUNK .. ":" .. frame.linedefined .. ">"
      lines[#lines + 1] = "\n\t" .. CHUNK .. ":" .. frame.currentline .. ": " .. place
    end
  end
  return #lines > 0 and "\nstack traceback:" .. concat(lines) or ""
end

local function tell(value)
  return describe(value) .. trace()
end

-- What a part of the run has failed with, made beforehand: there may be no room for anything new.
local failure = { "" }

local function catch(value)
  local ok, told = pcall(tell, value)
  failure[1] = (ok or type(value) ~= "string") and told or value
  return failure
end

-- The event -----------------------------------------------------------------------------------------------------------

local anycase = {
  __index = function(headers, name)
    if type(name) ~= "string" then return nil end
    name = lower(name)
    for key, value in next, headers do
      if type(key) == "string" and lower(key) == name then return value end
    end
  end,
}

-- Pairs out of the argument list: the first value of each name, and all of them.
local function collect(list, at, count)
  local first, all = {}, {}
  for index = at, at + 2 * count - 2, 2 do
    local name, value = list[index], list[index + 1]
    local values = all[name]
    if values then
      values[#values + 1] = value
    else
      first[name], all[name] = value, { value }
    end
  end
  return first, all
end

local function make_event(method, path, relative, body, counts, list)
  local headers, all_headers = collect(list, 1, counts)
  local query, all_query = collect(list, 2 * counts + 1, (#list - 2 * counts) / 2)
  return {
    method = method, path = path, relativePath = relative, body = body, headers = setmetatable(headers, anycase), query = query,
    multiValueHeaders = setmetatable(all_headers, anycase), multiValueQuery = all_query,
  }
end

-- The answer ----------------------------------------------------------------------------------------------------------

-- Name and values in turn, one a line: what would end a line is a space.
local function write_headers(headers)
  if type(headers) ~= "table" then return "" end
  local lines, count = {}, 0
  for name, value in next, headers do
    local array = type(value) == "table" and value or { value }
    for index = 1, type(name) == "string" and #array or 0 do
      lines[count + 1], lines[count + 2] = gsub(name, "[%z\r\n]", " "), gsub(option(array[index]), "[%z\r\n]", " ")
      count = count + 2
    end
  end
  return concat(lines, "\n")
end

local function conclude(response)
  if type(response) ~= "table" then return BAD_RESULT, "handler did not return a table" end
  local status = response.statusCode
  status = (type(status) == "number" or type(status) == "string") and tonumber(status) or 0
  if status ~= status then status = 0 end
  status = status < 0 and -floor(-status) or floor(status)
  if status == 0 then status = 200 end
  if status < 200 or status > 599 then
    return BAD_RESULT, "invalid statusCode " .. text(status) .. " (must be between 200 and 599)"
  end
  return ANSWERED, status, write_headers(response.headers), option(response.body), response.isBase64Encoded and true or false
end

-- The run -------------------------------------------------------------------------------------------------------------

-- Each part of the program is called by the VM's own xpcall: an error that has lost its line to a tail call finds none of ours.
local function perform(ctx, event)
  local ok, value = xpcall(load(program, "=" .. CHUNK, "b"), catch)
  if not ok then return ok, value end
  local handler = rawget(G, "handler")
  if type(handler) ~= "function" then return true, NO_HANDLER, "handler function not found in Lua code" end
  ok, value = xpcall(handler, catch, ctx, event)
  if not ok then return ok, value end
  return xpcall(conclude, catch, value)
end

local function finish(ok, kind, ...)
  core.close()
  if ok then return kind, ... end
  return FAILED, kind == failure and failure[1] or kind  -- what the VM says when memory is short does not come by
end

-- The host's half calls this once: a seed for math.random, the context, the event's fields, how many headers there are, then
-- their names and values, then the query's.
return function(
  seed, execution, started, request, func, func_name, version, base_url, method, path, relative, body, header_count, ...)
  randomseed(seed)
  core.context = { baseUrl = base_url, functionId = func }
  local ctx = {
    executionId = execution, functionId = func, functionName = func_name, version = version, requestId = request,
    startedAt = started, baseUrl = base_url,
  }
  return finish(perform(ctx, make_event(method, path, relative, body, header_count, { ... })))
end
