--- Owns the face for Envoy's Lua filter: `new` at the script's top, `protect` in envoy_on_request.
--
-- Envoy runs a script once for each worker thread, and more: the replica's files are opened with the first request, once
-- for the process (replica/environment.lua).

local gates = require "keywright.gate"

local M = {}

local FIELDS = "keywright"

local Face = {}
Face.__index = Face

--- What protects routes by these settings; `cluster` names the edge's cluster in Envoy's configuration.
function M.new(settings)
  return setmetatable({ gate = gates.new(settings) }, Face)
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

local function ask(gate, handle, question, values, address, path, request_id)
  if not gate.cluster then return gate:judge_answer(question, nil, nil, nil, path, request_id) end
  local asked = {
    [":method"] = "GET", [":path"] = "/v1/forward-auth/" .. question.segment .. "/", [":authority"] = "keywright",
    [gate.header.name] = values[1], ["x-request-id"] = request_id, ["x-real-ip"] = address,
    ["x-forwarded-for"] = address, ["keywright-token"] = gate.edge_token,
  }
  local headers, body = handle:httpCall(gate.cluster, asked, "", gate.timeout_millis)
  return gate:judge_answer(question, tonumber(headers[":status"]), headers, body or "", path, request_id)
end

local function send(handle, answer)
  answer.headers[":status"] = tostring(answer.status)
  handle:respond(answer.headers, answer.body)
end

--- Let the request go on if its key is good, as the face for nginx does; `options` has `bucket` and `scopes`.
function Face:protect(handle, options)
  local gate, headers = self.gate, handle:headers()
  local question = gate:question(options.bucket, options.scopes)
  local values = values_of(headers, gate.header.name)
  local address = address_of(handle)
  local path, request_id = headers:get(":path"):match "^[^?]*", headers:get "x-request-id" or ""
  clear(gate, headers)
  headers:remove(gate.header.name)
  local outcome, told, fields = gate:check(question, values, address, path, request_id)
  if outcome == "ask" then
    handle:logInfo("keywright: the edge is asked: " .. tostring(told))
    outcome, told, fields = ask(gate, handle, question, values, address, path, request_id)
  end
  if outcome ~= "allow" then return send(handle, told) end
  for name, value in pairs(told) do
    if value ~= "" then headers:replace(name, value) end
  end
  for _, name in ipairs { "ratelimit", "ratelimit-policy" } do
    if fields and fields[name] then handle:streamInfo():dynamicMetadata():set(FIELDS, name, fields[name]) end
  end
end

--- In envoy_on_response: tell the client what is left of its limits.
function Face:finish(handle)
  for name, value in pairs(handle:streamInfo():dynamicMetadata():get(FIELDS) or {}) do
    handle:headers():replace(name, value)
  end
end

return M
