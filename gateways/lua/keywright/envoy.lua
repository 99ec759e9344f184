--- Owns the face for Envoy's Lua filter: `new` at the script's top, `protect` in envoy_on_request.
--
-- Envoy lets a request go on when a script fails, and runs none where the script could not be loaded in one of its
-- threads. So whatever fails here is caught and answered with 503, what may fail at the start is tried again with each
-- request, and a request that may go on is marked: the RBAC filter behind this one lets no other pass.
--
-- Envoy runs a script once for each worker thread, and more: the replica's files are opened with the first request, once
-- for the process (replica/environment.lua).

local answers = require "keywright.answers"
local gates = require "keywright.gate"

local M = {}

local MARK, FIELDS = "keywright", { "ratelimit", "ratelimit-policy" }

local Face = {}
Face.__index = Face

--- What protects routes by these settings; `cluster` names the edge's cluster in Envoy's configuration.
function M.new(settings)
  return setmetatable({ settings = settings, gate = nil }, Face)
end

local function clear(gate, headers)
  local reserved = {}
  -- A header must not be removed while Envoy goes over them.
  for name in pairs(headers) do
    if gate:is_reserved(name) then reserved[#reserved + 1] = name end
  end
  for _, name in ipairs(reserved) do headers:remove(name) end
end

local function values_of(headers, name)
  local values = {}
  for index = 1, headers:getNumValues(name) do values[index] = headers:getAtIndex(name, index - 1) end
  return values
end

local function address_of(handle)
  local told = handle:streamInfo():downstreamRemoteAddress()
  return told:match "^%[(.*)%]:%d+$" or told:match "^([%d.]+):%d+$"
end

local function ask(gate, handle, question, values, address)
  if not gate.cluster then return gate:judge_answer() end
  local asked = {
    [":method"] = "GET", [":path"] = "/v1/forward-auth/" .. question.segment .. "/", [":authority"] = "keywright",
    [gate.header.name] = values[1], ["x-request-id"] = handle:headers():get "x-request-id", ["x-real-ip"] = address,
    ["x-forwarded-for"] = address, ["keywright-token"] = gate.edge_token,
  }
  -- Envoy would add its own address to whom it asks for.
  local headers, body = handle:httpCall(gate.cluster, asked, "", { timeout_ms = gate.timeout_millis, send_xff = false })
  return gate:judge_answer(tonumber(headers[":status"]), headers, body or "")
end

local function send(handle, answer)
  answer.headers[":status"] = tostring(answer.status)
  handle:respond(answer.headers, answer.body)
end

local function protect(self, handle, options)
  local gate = self.gate
  if not gate then
    gate = gates.new(self.settings)
    self.gate = gate
  end
  local headers = handle:headers()
  local question = gate:question(options.bucket, options.scopes)
  local values = values_of(headers, gate.header.name)
  clear(gate, headers)
  headers:remove(gate.header.name)
  local outcome, told, fields = gate:check(question, values, function() return address_of(handle) end)
  if outcome == "ask" then
    handle:logInfo("keywright: the edge is asked: " .. tostring(told))
    outcome, told, fields = ask(gate, handle, question, values, address_of(handle))
    -- What was had of the request before that is not good any more.
    headers = handle:headers()
  end
  if outcome ~= "allow" then
    if type(told) ~= "string" then return told end
    return gate:refuse(told, question, headers:get(":path"):match "^[^?]*", headers:get "x-request-id" or "")
  end
  for at = 1, #told, 2 do
    if told[at + 1] ~= "" then headers:replace(told[at], told[at + 1]) end
  end
  local metadata = handle:streamInfo():dynamicMetadata()
  for _, name in ipairs(FIELDS) do
    if fields and fields[name] then metadata:set(MARK, name, fields[name]) end
  end
  metadata:set(MARK, "outcome", "allow")
end

--- Let the request go on if its key is good, as the face for nginx does; `options` has `bucket` and `scopes`.
function Face:protect(handle, options)
  local is_done, answer = pcall(protect, self, handle, options)
  if not is_done then
    handle:logErr("keywright: " .. tostring(answer))
    answer = answers.refuse("UNCHECKED", options, "", "", handle:headers():get "x-request-id" or "")
  end
  -- Not within the call above: it ends the script.
  if answer then send(handle, answer) end
end

--- In envoy_on_response: tell the client what is left of its limits.
function Face:finish(handle)
  local told = handle:streamInfo():dynamicMetadata():get(MARK)
  if not told then return end
  for _, name in ipairs(FIELDS) do
    if told[name] then handle:headers():replace(name, told[name]) end
  end
end

return M
