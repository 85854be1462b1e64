-- Calls to other servers, made by the host (Lunar contract 3.9).
local core = ...
local decode, encode, ipairs, next, option, service, str, tab, type, upper =
  core.decode, core.encode, ipairs, next, core.option, core.service, core.str, core.tab, type,
  string.upper

local BODYLESS = { GET = true, HEAD = true, DELETE = true }

local http = {}

-- A table of options as the host takes it: pairs of texts. Without any there is nothing to send.
local function pairs_of(options)
  if type(options) ~= "table" then return nil end
  local list, count = {}, 0
  for name, value in next, options do
    count = count + 1
    list[count] = { option(name), option(value) }
  end
  return count > 0 and list or nil
end

local function request(method, url, options)
  options = options or {}
  local args = { method = method, url = url, headers = pairs_of(options.headers), query = pairs_of(options.query) }
  local said, body = service("http", "request", encode(args), BODYLESS[method] and "" or option(options.body))
  if not said then return nil, body end
  said = decode(said)
  local headers = {}
  for _, header in ipairs(said.headers) do
    if headers[header[1]] == nil then headers[header[1]] = header[2] end
  end
  return { statusCode = said.status, headers = headers, body = body }
end

for _, name in ipairs({ "get", "head", "delete", "post", "put", "patch" }) do
  local method = upper(name)
  http[name] = function(url, options)
    return request(method, str(url, 1, name), options ~= nil and tab(options, 2, name) or nil)
  end
end

function http.request(method, url, options)
  return request(upper(str(method, 1, "request")), str(url, 2, "request"), options ~= nil and tab(options, 3, "request") or nil)
end

return http
