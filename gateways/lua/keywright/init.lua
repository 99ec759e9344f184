--- Owns the face for nginx and OpenResty: `configure` in init_by_lua, `protect` in access_by_lua.
--
-- A good key lets the request go on to the API, with the identity in headers; `protect` answers every other one.

local edge_client = require "keywright.edge_client"
local gates = require "keywright.gate"

local M = {}

local gate, edge

--- Say where the replica, its pepper and the edge are. In nginx's master: the pepper is read before workers drop
-- their rights. The replica's files are opened by each worker, with its first request.
function M.configure(settings)
  gate = gates.new(settings)
  edge = settings.edge and edge_client.parse(settings.edge)
end

--- For hosts in whose init_by_lua one has no say.
function M.is_configured()
  return gate ~= nil
end

local function values_of(name)
  local values = ngx.req.get_headers(0)[name]
  if values == nil then return {} end
  return type(values) == "table" and values or { values }
end

--- Take out of the request what tells an identity, whoever sent it.
local function clear()
  for name in pairs(ngx.req.get_headers(0, true)) do
    if gate:is_reserved(name) then ngx.req.clear_header(name) end
  end
  ngx.req.clear_header(gate.header.name)
end

local function give(identity)
  for name, value in pairs(identity) do
    -- In nginx a header is left out by being empty.
    if value ~= "" then ngx.req.set_header(name, value) end
  end
end

local function send(answer)
  ngx.status = answer.status
  for name, value in pairs(answer.headers) do ngx.header[name] = value end
  ngx.header["content-length"] = #answer.body
  ngx.print(answer.body)
  return ngx.exit(answer.status)
end

local function ask(question, values, address, path, request_id)
  if not edge then return gate:judge_answer(question, nil, nil, nil, path, request_id) end
  local lines = { "X-Request-Id: " .. request_id }
  for _, value in ipairs(values) do lines[#lines + 1] = gate.header.name .. ": " .. value end
  if address then
    lines[#lines + 1] = "X-Real-IP: " .. address
    lines[#lines + 1] = "X-Forwarded-For: " .. address
  end
  if gate.edge_token then lines[#lines + 1] = "Keywright-Token: " .. gate.edge_token end
  local status, headers, body = edge_client.ask(edge, question.segment, lines, gate.timeout_millis)
  if not status then
    ngx.log(ngx.ERR, "keywright: the edge does not answer: ", headers)
    headers = nil
  end
  return gate:judge_answer(question, status, headers, body, path, request_id)
end

--- Let the request go on if its key is good in `options.bucket`, and for `options.scopes` (a text with commas, or a
-- list); answer it otherwise. The client's address is the connection's, as nginx's realip module has it.
function M.protect(options)
  if not gate then error("keywright: configure{...} was not called in init_by_lua", 0) end
  local question = gate:question(options.bucket, options.scopes)
  local values = values_of(gate.header.name)
  local address = ngx.var.remote_addr
  if address == "unix:" then address = nil end
  local path, request_id = ngx.var.request_uri:match "^[^?]*", ngx.var.request_id
  -- Before anything may yield or fail.
  clear()
  local outcome, told, fields = gate:check(question, values, address, path, request_id)
  if outcome == "ask" then
    ngx.log(ngx.INFO, "keywright: the edge is asked: ", told)
    outcome, told, fields = ask(question, values, address, path, request_id)
  end
  if outcome ~= "allow" then return send(told) end
  give(told)
  for _, name in ipairs { "ratelimit", "ratelimit-policy" } do
    if fields and fields[name] then ngx.header[name] = fields[name] end
  end
end

return M
