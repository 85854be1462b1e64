-- kv and env: durable values of the function and of its account (Lunar contract 3.5).
local core = ...
local format, int, service, str, sub, tonumber, u32 =
  string.format, core.int, core.service, core.str, string.sub, tonumber, core.u32

-- Read pages until there are no more; `take(data, at)` keeps an entry, and says its key and what is behind it.
local function read_all(name, method, args, take)
  local last = ""
  repeat
    local said, data = service(name, method, args, last)
    if not said then return end
    local at = 1
    while at <= #data do last, at = take(data, at) end
  until said ~= '{"more":true}'
end

-- Fill `kv` with the functions of one scope. `service_name`: kv or env; `suffix`: how the program tells the scopes apart;
-- `names`: what the functions for single values are called, by what the service calls them.
local function open(kv, service_name, suffix, scope)
  local plain = "{" .. scope .. "}"
  local separator = scope == "" and "" or ","
  local get, set, delete = "get" .. suffix, "set" .. suffix, "delete" .. suffix

  kv[get] = function(key)
    local said, value = service(service_name, "get", plain, str(key, 1, get))
    return said == "true" and value or nil
  end

  kv[set] = function(key, value)
    key, value = str(key, 1, set), str(value, 2, set)
    return key ~= "" and service(service_name, "set", format('{"key_bytes":%d%s%s}', #key, separator, scope), key .. value) == "true"
  end

  kv[delete] = function(key)
    key = str(key, 1, delete)
    return key ~= "" and service(service_name, "delete", plain, key) == "true"
  end

  return plain, separator
end

-- What there is for kv only.
local function open_more(kv, suffix, scope)
  local plain, separator = open(kv, "kv", suffix, scope)
  local incr, cas = "incr" .. suffix, "cas" .. suffix

  kv[suffix == "" and "listKeys" or "list" .. suffix .. "Keys"] = function()
    local keys = {}
    read_all("kv", "list", plain, function(data, at)
      local stop = at + 4 + u32(data, at)
      local key = sub(data, at + 4, stop - 1)
      keys[#keys + 1] = key
      return key, stop
    end)
    return keys
  end

  kv["all" .. suffix] = function()
    local entries = {}
    read_all("kv", "all", plain, function(data, at)
      local value_at = at + 8 + u32(data, at)
      local stop = value_at + u32(data, at + 4)
      local key = sub(data, at + 8, value_at - 1)
      entries[key] = sub(data, value_at, stop - 1)
      return key, stop
    end)
    return entries
  end

  kv[incr] = function(key, by)
    key, by = str(key, 1, incr), by == nil and 1 or int(by, 2, incr)
    if key == "" then return nil, "key is empty" end
    local said, fault = service("kv", "incr", format('{"by":%d%s%s}', by, separator, scope), key)
    if not said then return nil, fault end
    return tonumber(said)
  end

  kv[cas] = function(key, expected, new)
    key = str(key, 1, cas)
    expected, new = expected ~= nil and str(expected, 2, cas) or nil, new ~= nil and str(new, 3, cas) or nil
    if key == "" then return false end
    local args = format('{"key_bytes":%d,"expected_bytes":%s,"new_bytes":%s%s%s}',
      #key, expected and #expected or "null", new and #new or "null", separator, scope)
    return service("kv", "cas", args, key .. (expected or "") .. (new or "")) == "true"
  end
end

local kv = {}
open_more(kv, "", "")
open_more(kv, "Global", '"global":true')
core.open_entries = open
return kv
