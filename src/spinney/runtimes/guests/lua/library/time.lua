-- Clocks, and times as text in Go's reference layouts (Lunar contract 3.7).
local core = ...
local ask, floor, int, num, str = core.ask, math.floor, core.int, core.num, core.str

local time = {}

function time.now()
  return floor(ask("time.now"))
end

function time.nowMs()
  return floor(ask("time.now") * 1000)
end

function time.sleep(ms)
  ms = num(ms, 1, "sleep")
  if ms > 0 then ask("time.sleep", ms) end
end

function time.format(at, layout)
  return ask("time.format", int(at, 1, "format"), str(layout, 2, "format"))
end

function time.parse(text, layout)
  return ask("time.parse", str(text, 1, "parse"), str(layout, 2, "parse"))
end

return time
