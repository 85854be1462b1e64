-- Questions to language models, asked by the host (Lunar contract 3.10).
local core = ...
local decode, encode, option, service, tab, tonumber, type =
  core.decode, core.encode, core.option, core.service, core.tab, tonumber, type

local ai = {}

-- Those messages that say who and what.
local function read_messages(given)
  local messages, count = {}, 0
  for index = 1, #given do
    local message = given[index]
    local role, content = "", ""
    if type(message) == "table" then role, content = option(message.role), option(message.content) end
    if role ~= "" and content ~= "" then
      count = count + 1
      messages[count] = { role = role, content = content }
    end
  end
  return count > 0 and messages or nil
end

function ai.chat(options)
  tab(options, 1, "chat")
  local args = {
    provider = option(options.provider), model = option(options.model), endpoint = option(options.endpoint),
    max_tokens = tonumber(options.max_tokens), temperature = tonumber(options.temperature),
  }
  if args.provider == "" then return nil, "provider is required (openai or anthropic)" end
  if args.model == "" then return nil, "model is required" end
  if type(options.messages) ~= "table" then return nil, "messages is required and must be a table" end
  args.messages = read_messages(options.messages)
  if not args.messages then return nil, "messages cannot be empty" end
  if args.endpoint == "" then args.endpoint = nil end
  local text, fault = encode(args)
  if not text then return nil, fault end
  local said, message = service("ai", "chat", text)
  if not said then return nil, message end
  return decode(said)
end

return ai
