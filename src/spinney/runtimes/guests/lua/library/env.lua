-- env: the function's variables (Lunar contract 3.5).
local core = ...

local env = {}
core.open_entries(env, "env", "", "")
return env
