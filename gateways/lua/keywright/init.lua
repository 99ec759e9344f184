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

local function find_address()
  local address = ngx.var.remote_addr
  return address ~= "unix:" and address or nil
end

--- The values of the key's header. Whatever tells an identity is taken out of the request, whoever sent it.
local function take()
  local values
  local wanted = gate.header.name
  for name, value in pairs(ngx.req.get_headers(0)) do
    if name == wanted then values = value elseif gate:is_reserved(name) then ngx.req.clear_header(name) end
  end
  if values == nil then return {} end
  ngx.req.clear_header(wanted)
  return type(values) == "table" and values or { values }
end

local function send(answer)
  ngx.status = answer.status
  for name, value in pairs(answer.headers) do ngx.header[name] = value end
  ngx.header["content-length"] = #answer.body
  ngx.print(answer.body)
  return ngx.exit(answer.status)
end

local function ask(question, values)
  if not edge then return gate:judge_answer() end
  local lines, address = { "X-Request-Id: " .. ngx.var.request_id }, find_address()
  for _, value in ipairs(values) do lines[#lines + 1] = gate.header.name .. ": " .. value end
  if address then
    lines[#lines + 1] = "X-Real-IP: " .. address
    lines[#lines + 1] = "X-Forwarded-For: " .. address
  end
  if gate.edge_token then lines[#lines + 1] = "Keywright-Token: " .. gate.edge_token end
  local status, headers, body = edge_client.ask(edge, question.segment, lines, gate.timeout_millis)
  if not status then
    ngx.log(ngx.ERR, "keywright: the edge does not answer: ", headers)
    return gate:judge_answer()
  end
  return gate:judge_answer(status, headers, body)
end

--- Let the request go on if its key is good in `options.bucket`, and for `options.scopes` (a text with commas, or a
-- list); answer it otherwise. The client's address is the connection's, as nginx's realip module has it.
function M.protect(options)
  if not gate then error("keywright: configure{...} was not called in init_by_lua", 0) end
  local question = gate:question(options.bucket, options.scopes)
  -- Before anything may yield or fail.
  local values = take()
  local outcome, told, fields = gate:check(question, values, find_address)
  if outcome == "ask" then
    ngx.log(ngx.INFO, "keywright: the edge is asked: ", told)
    outcome, told, fields = ask(question, values)
  end
  if outcome ~= "allow" then
    if type(told) == "string" then
      told = gate:refuse(told, question, ngx.var.request_uri:match "^[^?]*", ngx.var.request_id)
    end
    return send(told)
  end
  for at = 1, #told, 2 do
    -- In nginx a header is left out by being empty.
    if told[at + 1] ~= "" then ngx.req.set_header(told[at], told[at + 1]) end
  end
  if not fields then return end
  for _, name in ipairs { "ratelimit", "ratelimit-policy" } do
    if fields[name] then ngx.header[name] = fields[name] end
  end
end

return M
