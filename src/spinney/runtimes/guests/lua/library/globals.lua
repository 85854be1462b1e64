-- What a program finds in its state: an allow-list of the VM's own functions, some of them narrowed (Lunar contract 3.4).
local core = ...
local concat, error, format, ipairs, load, next, select, setmetatable, text, tostring, type =
  table.concat, error, string.format, ipairs, load, next, select, setmetatable, core.text, tostring, type

local KEPT = {
  "_G", "_VERSION", "assert", "bit", "collectgarbage", "coroutine", "error", "getfenv", "getmetatable", "ipairs", "math", "next",
  "pairs", "pcall", "rawequal", "rawget", "rawset", "select", "setfenv", "setmetatable", "string", "table", "tonumber", "type",
  "unpack", "xpcall", "newproxy",
}
local OS = { "time", "date", "clock", "difftime" }
local STANDARD = { "_G", "bit", "coroutine", "math", "os", "package", "string", "table" }

local globals = {}

function globals.tostring(...)
  if select("#", ...) == 0 then error("bad argument #1 to 'tostring' (value expected)", 2) end
  local value = ...
  if type(value) == "number" then return text(value) end
  return tostring(value)
end

function globals.print(...)
  local parts = { ... }
  for index = 1, select("#", ...) do
    local value = parts[index]
    if type(value) ~= "string" then
      value = type(value) == "number" and text(value) or tostring(value)
      if type(value) ~= "string" then error("'tostring' must return a string to 'print'", 2) end
    end
    parts[index] = value
  end
  core.ask("log", 0, concat(parts, "\t"))
end

-- Compiled code is not checked by the VM, and so refused.
function globals.load(chunk, name, _, ...)
  if select("#", ...) == 0 then return load(chunk, name, "t") end
  return load(chunk, name, "t", (...))
end

function globals.loadstring(chunk, name)
  return load(core.str(chunk, 1, "loadstring"), name, "t")
end

-- Empty the state's table of globals and fill it anew; `libraries` are ours, by name.
function globals.install(libraries)
  local G, found, os = _G, {}, {}
  for _, name in ipairs(KEPT) do found[name] = G[name] end
  for _, name in ipairs(OS) do os[name] = G.os[name] end
  local math, string, package = G.math, G.string, G.package
  for name in next, package do
    if name ~= "loaded" and name ~= "preload" then package[name] = nil end
  end
  for name in next, package.loaded do package.loaded[name] = nil end
  for name in next, package.preload do package.preload[name] = nil end
  setmetatable(package, nil)
  for name in next, G do G[name] = nil end
  for name, value in next, found do G[name] = value end
  G.os, G.package = os, package
  G.tostring, G.print, G.load, G.loadstring = globals.tostring, globals.print, globals.load, globals.loadstring
  string.dump = nil
  string.gfind = string.gmatch
  for name, library in next, libraries do G[name] = library end
  local loaded, preload = package.loaded, package.preload
  for name in next, libraries do loaded[name] = G[name] end
  for _, name in ipairs(STANDARD) do loaded[name] = G[name] end
  G.require = function(name)
    name = core.str(name, 1, "require")
    local value = loaded[name]
    if value == nil and preload[name] then
      value = preload[name](name)
      if value == nil then value = true end
      loaded[name] = value
    end
    if value == nil then error(format("module '%s' not found", name), 2) end
    return value
  end
end

return globals
