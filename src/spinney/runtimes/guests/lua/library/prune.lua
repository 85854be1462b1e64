-- An allow-list of what the VM brings along: statements that take away all else (Lunar contract 3.4).
--
-- This runs once, in a state that knows no program; the statements run in every state.
local KEPT = [[
  _G _VERSION assert bit collectgarbage coroutine error getfenv getmetatable ipairs math next os package pairs pcall rawequal rawget
  rawset select setfenv setmetatable string table tonumber type unpack xpcall newproxy
]]

-- Of the VM's tables, what stays of each.
local KEPT_OF = {
  { "package.preload", "" },
  { "package.loaded", "_G bit coroutine math os package string table" },
  { "package", "loaded preload" },
  { "os", "time date clock difftime" },
  { "string", "byte char find format gmatch gsub len lower match rep reverse sub upper" },
  { "_G", KEPT },
}

local lines = {}
for _, entry in ipairs(KEPT_OF) do
  local path, kept, found = entry[1], {}, _G
  for name in entry[2]:gmatch("%S+") do kept[name] = true end
  for name in path:gmatch("[^.]+") do found = found[name] end
  for name in pairs(found) do
    if not kept[name] then lines[#lines + 1] = string.format("%s[%q] = nil", path, name) end
  end
end
return table.concat(lines, "\n")
