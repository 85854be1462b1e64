-- The library's own versions of the VM's functions, and `require` (Lunar contract 3.4).
local core = ...
local concat, error, format, load, next, select, text, tostring, type =
  table.concat, error, string.format, load, next, select, core.text, tostring, type

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

-- Give a pruned state its own functions and `libraries`, tables by name.
function globals.install(libraries)
  local G = _G
  local loaded, preload = G.package.loaded, G.package.preload
  G.tostring, G.print, G.load, G.loadstring = globals.tostring, globals.print, globals.load, globals.loadstring
  G.string.gfind = G.string.gmatch
  for name, library in next, libraries do
    G[name], loaded[name] = library, library
  end
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
