-- The collector's pace: a program may hold nearly all of its memory, and garbage must not take the rest (Lunar contract 3.3).
--
-- By itself the VM lets a state grow to twice of what is in use before it looks for garbage, and then takes its time. An object
-- that is garbage from the beginning tells when a collection ends; what is in use then decides when the next one begins.
local core, limit_kb = ...
local collect, floor, getmetatable, newproxy = collectgarbage, math.floor, getmetatable, newproxy

local MOST, LEAST = 200, 105
local STEP = 2000

local watch

local function set_pace()
  if core.closed then return end
  local pause = floor(90 * limit_kb / collect("count"))
  collect("setpause", pause > MOST and MOST or pause < LEAST and LEAST or pause)
  watch()
end

function watch()
  getmetatable(newproxy(true)).__gc = set_pace
end

collect("setstepmul", STEP)
watch()
collect("restart", -1)  -- stopped while the state was made; most runs end before it has doubled
