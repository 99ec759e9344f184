--- Owns powers: what is said of a key, a consumer or a plan beyond whose it is (src/keywright/domain/powers.py).
--
-- A name that is not known here raises: what was meant to keep somebody out must not be passed over.

local json = require "keywright.powers.json"
local networks = require "keywright.powers.networks"
local scopes = require "keywright.powers.scopes"

local M = {}

local KEPT = 5000
local KNOWN = {
  enabled = true, scopes = true, allowedIps = true, metadata = true, plan = true, rateLimits = true, quotas = true,
}

--- Nothing said.
M.NONE = { is_enabled = true, has_limits = false }

function M.is_known(name)
  return KNOWN[name] == true
end

local function texts(said, name)
  local list = said[name]
  if list == nil then return nil end
  if not json.is_list(list) then error("not powers: " .. name, 0) end
  for _, text in ipairs(list) do
    if type(text) ~= "string" then error("not powers: " .. name, 0) end
  end
  return list
end

--- A limit is the edge's to count, and so to read: here it only matters whether there is one. nil: not said.
local function limits(said, name)
  local list = said[name]
  if list == nil then return nil end
  if not json.is_list(list) then error("not powers: " .. name, 0) end
  return #list > 0
end

local function compile(text)
  local said = json.decode(text)
  if not json.is_object(said) then error("not powers", 0) end
  for name in pairs(said) do
    if not KNOWN[name] then error("a power that is not known here: " .. name, 0) end
  end
  local enabled = said.enabled
  if enabled == nil then enabled = true end
  if type(enabled) ~= "boolean" then error("not powers: enabled", 0) end
  local plan = said.plan
  if plan == json.null then plan = nil end
  if plan ~= nil and (type(plan) ~= "number" or plan % 1 ~= 0) then error("not powers: plan", 0) end
  local granted, allowed = texts(said, "scopes"), texts(said, "allowedIps")
  return {
    is_enabled = enabled,
    scopes = granted and scopes.new(granted),
    networks = allowed and networks.parse(allowed),
    has_metadata = said.metadata ~= nil and said.metadata ~= json.null,
    plan = plan,
    rate_limits = limits(said, "rateLimits"),
    quotas = limits(said, "quotas"),
  }
end

local kept, count = {}, 0

--- The powers in a text; "" says nothing. Most are those of many keys, and are compiled once.
function M.decode(text)
  if text == "" then error("not powers", 0) end
  local powers = kept[text]
  if not powers then
    powers = compile(text)
    powers.has_limits = powers.rate_limits == true or powers.quotas == true
    if count >= KEPT then kept, count = {}, 0 end
    kept[text], count = powers, count + 1
  end
  return powers
end

local function first(...)
  for index = 1, select("#", ...) do
    local value = select(index, ...)
    if value ~= nil then return value end
  end
end

--- A consumer's powers with what it inherits: what is not said of it is its plan's, and scopes then the bucket's.
function M.inheriting(own, plan, default_scopes)
  own, plan = own or M.NONE, plan or M.NONE
  return {
    is_enabled = own.is_enabled,
    networks = own.networks,
    scopes = first(own.scopes, plan.scopes, default_scopes),
    -- Those of the plan, too, that its own take the place of: they are not read here.
    has_limits = own.has_limits or plan.has_limits,
  }
end

return M
