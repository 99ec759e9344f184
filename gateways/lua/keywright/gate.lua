--- Owns what both faces share: the settings, the question of a route, and what becomes of a request and its key.
--
-- A face (init.lua for nginx and OpenResty, envoy.lua) finds the header's values and the client's address, and carries
-- out what `Gate:check` says.

local answers = require "keywright.answers"
local credentials = require "keywright.credentials"
local digest = require "keywright.digest"
local judges = require "keywright.judge"
local scopes = require "keywright.powers.scopes"

local M = {}

--- What is told of a consumer, and the header that tells it. The last two only where they are named.
local TOLD = { "consumer_name", "consumer_id", "key_id", "consumer_metadata", "consumer_token", "key_scopes", "key_metadata" }
local NAMES = {
  consumer_name = "x-consumer-name", consumer_id = "x-consumer-id", key_id = "x-key-id",
  consumer_metadata = "x-consumer-metadata", consumer_token = "x-consumer-token",
}
local SETTINGS = {
  replica = true, pepper_file = true, pepper = true, edge = true, edge_token = true, header = true, scheme = true,
  identity_headers = true, has_token = true, cluster = true, timeout_millis = true,
}
local KEPT = 1000

local Gate = {}
Gate.__index = Gate

--- The gate that these settings describe; raises for what can't be right. See docs/how-to/decide-in-nginx.md.
function M.new(settings)
  for name in pairs(settings) do
    if not SETTINGS[name] then error("keywright: there is no setting " .. tostring(name), 0) end
  end
  if type(settings.replica) ~= "string" then error("keywright: `replica` is the edge's folder of that name", 0) end
  local names = {}
  for _, what in ipairs(TOLD) do
    local name = (settings.identity_headers or {})[what] or NAMES[what]
    if name then
      if not name:lower():find "^[a-z][a-z0-9-]*$" then error("keywright: no name of a header: " .. name, 0) end
      names[#names + 1] = { what = what, name = name:lower() }
    end
  end
  for what in pairs(settings.identity_headers or {}) do
    local is_there = false
    for _, told in ipairs(TOLD) do is_there = is_there or told == what end
    if not is_there then error("keywright: nothing to tell is called " .. tostring(what), 0) end
  end
  local digester = settings.pepper and digest.new(settings.pepper)
    or digest.load(settings.pepper_file or error("keywright: `pepper_file` is missing", 0))
  return setmetatable({
    judge = judges.new(settings.replica:gsub("/$", ""), digester),
    header = credentials.new(settings.header or "authorization", settings.scheme or "Bearer"),
    names = names, has_token = settings.has_token == true, edge = settings.edge, edge_token = settings.edge_token,
    cluster = settings.cluster, timeout_millis = settings.timeout_millis or 1000, questions = {}, encoded = {}, count = 0,
    reserved = {}, reserved_count = 0,
  }, Gate)
end

--- What a route asks: a bucket, and perhaps scopes. Raises for what can't be asked.
function Gate:question(bucket, demanded)
  local key = not demanded and bucket or bucket .. ";" .. (type(demanded) == "table" and table.concat(demanded, ",") or demanded or "")
  local question = self.questions[key]
  if question then return question end
  if not bucket:find "^[a-z0-9-]+$" then error("keywright: no name of a bucket: " .. bucket, 0) end
  local list = type(demanded) == "table" and demanded or {}
  if type(demanded) == "string" then
    for scope in demanded:gmatch "[^,]+" do list[#list + 1] = scope end
  end
  local fault = scopes.find_fault(list)
  if fault then error("keywright: " .. fault, 0) end
  question = { bucket = bucket, scopes = list, segment = #list > 0 and bucket .. ";scope=" .. table.concat(list, ",") or bucket }
  self.questions[key] = question
  return question
end

local function is_reserved(self, name)
  local plain = name:lower():gsub("[_.]", "-")
  if plain:find("^x%-consumer%-") or plain:find("^x%-key%-") then return true end
  for _, told in ipairs(self.names) do
    if told.name == plain then return true end
  end
  return false
end

--- Whether a header of this name is one that a client may not send: it tells an identity, however it is spelt.
function Gate:is_reserved(name)
  local is_it = self.reserved[name]
  if is_it == nil then
    is_it = is_reserved(self, name)
    -- Names are the clients' to choose.
    if self.reserved_count >= KEPT then self.reserved, self.reserved_count = {}, 0 end
    self.reserved[name], self.reserved_count = is_it, self.reserved_count + 1
  end
  return is_it
end

local function percent_encode(text)
  return (text:gsub("[^%w%-._~]", function(char) return ("%%%02X"):format(char:byte()) end))
end

function Gate:encode(metadata)
  local encoded = self.encoded[metadata]
  if not encoded then
    if self.count >= KEPT then self.encoded, self.count = {}, 0 end
    encoded = percent_encode(metadata)
    self.encoded[metadata], self.count = encoded, self.count + 1
  end
  return encoded
end

--- Header names and values that tell the API who asks, in turn; "" for what is not told here.
function Gate:identity(key)
  -- The records of a key are kept for as long as nothing changes (replica/init.lua), and so is what they tell.
  if key.told then return key.told end
  local told = {}
  for _, one in ipairs(self.names) do
    local what, value = one.what, ""
    if what == "consumer_name" then value = key.consumer
    elseif what == "consumer_id" then value = key.consumer_id
    elseif what == "key_id" then value = key.key_id
    elseif what == "consumer_metadata" then value = self:encode(key.metadata)
    elseif what == "key_scopes" then value = table.concat(scopes.list_granted(key.own.scopes, key.above.scopes), " ")
    elseif what == "key_metadata" then value = "%7B%7D" end
    local at = #told
    told[at + 1], told[at + 2] = one.name, value
  end
  key.told = told
  return told
end

--- The same of an edge's answer: its headers, names in lower case.
function Gate:identity_in(headers)
  local told = {}
  for _, one in ipairs(self.names) do
    local at = #told
    told[at + 1], told[at + 2] = one.name, headers[one.name] or ""
  end
  return told
end

--- Whether only the edge can tell all that is to be told of a good key.
local function is_told_by_edge(self, key)
  if self.has_token then return true end
  for _, one in ipairs(self.names) do
    if one.what == "key_metadata" and key.own.has_metadata then return true end
  end
  return false
end

--- What becomes of a request: "allow" and the identity, "refuse" and a code for `refuse`, "ask" and why.
-- `values` are those of the key's header; `find_address` as in judge.lua.
function Gate:check(question, values, find_address)
  local secret, fault = self.header:read(values)
  local verdict, key = self.judge:validate(question.bucket, secret, question.scopes, find_address)
  if verdict == "VALID" then
    if is_told_by_edge(self, key) then return "ask", "only the edge can tell who that is" end
    return "allow", self:identity(key)
  end
  if verdict == "ASK" then
    -- Of several keys none is shown to anybody.
    if fault == "AMBIGUOUS" then return "refuse", fault end
    return "ask", key
  end
  if fault and verdict == "MALFORMED" then verdict = fault end
  return "refuse", verdict
end

function Gate:refuse(code, question, path, request_id)
  return answers.refuse(code, question, self.header.challenge, path, request_id)
end

--- What becomes of an edge's answer, nil for none: "allow", the identity and what the client is told of limits; "refuse"
-- and an answer, or a code.
function Gate:judge_answer(status, headers, body)
  if status == 200 then return "allow", self:identity_in(headers), answers.headers_for_client(headers) end
  if status == 401 or status == 403 or status == 429 then
    return "refuse", { status = status, headers = answers.headers_for_client(headers), body = body }
  end
  return "refuse", "UNCHECKED"
end

return M
