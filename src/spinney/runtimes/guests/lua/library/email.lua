-- Mail, sent by the host (Lunar contract 3.10).
local core = ...
local date, decode, encode, floor, next, option, service, tab, type =
  os.date, core.decode, core.encode, math.floor, next, core.option, core.service, core.tab, type

local email = {}

-- An address or an array of them as an array; nil when there is none, false when one of them is no text.
local function read_list(given)
  if type(given) ~= "table" then
    local only = option(given)
    return only ~= "" and { only } or nil
  end
  local list = {}
  for index = 1, #given do
    local value = given[index]
    if type(value) ~= "string" and type(value) ~= "number" then return false end
    list[index] = option(value)
  end
  return #list > 0 and list or nil
end

local function read_headers(given)
  if type(given) ~= "table" then return nil end
  local headers = {}
  for name, value in next, given do
    if type(name) == "string" then headers[name] = option(value) end
  end
  return next(headers) ~= nil and headers or nil
end

local function read_tags(given)
  local tags, count = {}, 0
  for index = 1, type(given) == "table" and #given or 0 do
    local tag = given[index]
    local name = type(tag) == "table" and option(tag.name) or ""
    if name ~= "" then
      count = count + 1
      tags[count] = { name = name, value = option(tag.value) }
    end
  end
  return count > 0 and tags or nil
end

local function read_time(given)
  if type(given) == "number" then return date("!%Y-%m-%dT%H:%M:%SZ", floor(given)) end
  return given
end

local function given_text(value)
  value = option(value)
  return value ~= "" and value or nil
end

function email.send(options)
  tab(options, 1, "send")
  local to = options.to
  if to == nil or to == "" then return nil, "to is required" end
  if type(to) ~= "string" and type(to) ~= "number" and type(to) ~= "table" then return nil, "to must be a string or table of strings" end
  local args = {
    to = read_list(to), from = given_text(options.from), subject = given_text(options.subject), text = given_text(options.text),
    html = given_text(options.html), cc = read_list(options.cc) or nil, bcc = read_list(options.bcc) or nil,
    reply_to = type(options.reply_to) == "table" and read_list(options.reply_to) or given_text(options.reply_to),
    headers = read_headers(options.headers), tags = read_tags(options.tags),
    scheduled_at = given_text(read_time(options.scheduled_at)),
  }
  if args.to == false then return nil, "to must be a string or table of strings" end
  if not args.to then return nil, "to cannot be empty" end
  if not args.from then return nil, "from is required" end
  if not args.subject then return nil, "subject is required" end
  if not args.text and not args.html then return nil, "either text or html content is required" end
  local said, message = service("email", "send", encode(args))
  if not said then return nil, message end
  return decode(said)
end

return email
