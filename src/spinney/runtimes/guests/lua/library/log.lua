-- A call's log (Lunar contract 3.5).
local core = ...
local ask, str = core.ask, core.str

local log = {}

for level, name in ipairs({ "info", "warn", "error", "debug" }) do
  log[name] = function(message)
    ask("log", level - 1, str(message, 1, name))
  end
end

return log
