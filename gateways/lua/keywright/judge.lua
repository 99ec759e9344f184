--- Owns the judgement of a key: the verdicts of src/keywright/domain/verdict.py, in the same order.
--
-- One more than there: ASK. What is counted, not known here, or not to be read goes to the edge beside the replica.

local networks = require "keywright.powers.networks"
local records = require "keywright.replica.records"
local replicas = require "keywright.replica"
local scopes = require "keywright.powers.scopes"
local states = require "keywright.replica.state"
local system = require "keywright.replica.system"

local M = {}

local MIN_LENGTH, MAX_LENGTH = 8, 512

local Judge = {}
Judge.__index = Judge

--- Of the replica in a directory, with a digester of its pepper (digest.lua).
function M.new(directory, digester)
  return setmetatable({
    digester = digester, replica = replicas.new(directory, digester:pepper_check()), state = states.new(directory),
  }, Judge)
end

--- Whether a text has the length of a key, and nothing but printable ASCII. By bytes: LuaJIT compiles no patterns.
local function is_printable(text)
  local length = #text
  if length < MIN_LENGTH or length > MAX_LENGTH then return false end
  for at = 1, length do
    local byte = text:byte(at)
    if byte < 33 or byte > 126 then return false end
  end
  return true
end

--- Whether a text could be a key: printable ASCII of the right length and, in our format, a right checksum.
function M.is_possible(text)
  if not is_printable(text) then return false end
  local prefix, random, sum = text:match "^([a-z][a-z0-9_]+)_([0-9a-f]+)_([0-9a-f]+)$"
  if not prefix or #prefix > 24 or #random ~= 32 or #sum ~= 8 then return true end
  if prefix:find("__", 1, true) or prefix:sub(-1) == "_" then return true end
  return ("%08x"):format(records.crc32(random, 32)) == sum
end

--- The verdict on a key by its records, at a moment of CLOCK_BOOTTIME. Limits are not looked at.
local function decide(key, state, now, demanded, find_address)
  local own, above = key.own, key.above
  if not (own.is_enabled and above.is_enabled) then return "DISABLED" end
  if key.expires_at and state:time(now) >= key.expires_at then return "EXPIRED" end
  if own.networks or above.networks then
    -- Not known is in no network.
    local address = networks.parse_address(find_address())
    if own.networks and not networks.hold(own.networks, address) then return "IP_NOT_ALLOWED" end
    if above.networks and not networks.hold(above.networks, address) then return "IP_NOT_ALLOWED" end
  end
  if #demanded > 0 then
    if not above.scopes or not scopes.cover_all(above.scopes, demanded) then return "INSUFFICIENT_SCOPE" end
    if own.scopes and not scopes.cover_all(own.scopes, demanded) then return "INSUFFICIENT_SCOPE" end
  end
  return "VALID"
end

--- The verdict on a text in a bucket, and the key when it is VALID; with ASK, why.
--
-- `secret` is nil where the request shows none: then it is MALFORMED in a bucket that there is. `demanded` is a list of
-- scopes; `find_address` gives the client's address as text, nil where it is not known, and is called only about a key
-- that not every address may use.
function Judge:validate(bucket_name, secret, demanded, find_address)
  if bucket_name:byte() == 95 then return "NO_BUCKET" end
  local now, state = system.millis(system.BOOTTIME), self.state
  if not state:refresh(now) then return "ASK", "the state of the replica is not known" end
  local is_over = state:is_over(now)
  if is_over == nil then return "ASK", "it is not known how old the replica is" end
  if is_over then return "UNAVAILABLE" end
  -- No key is of another form. What is too long is not worth a digest either.
  local is_one = secret ~= nil and is_printable(secret)
  local bucket, key = self.replica:find(now, bucket_name, is_one and self.digester:digest(secret) or nil)
  if bucket == nil then return "ASK", key end
  if not bucket then return "NO_BUCKET" end
  if bucket.refuse_after then
    local lag = state:lag(now)
    if not lag then return "ASK", "it is not known how old the replica is" end
    if lag > bucket.refuse_after * 1000 then return "UNAVAILABLE" end
  end
  if key == nil then return is_one and M.is_possible(secret) and "UNKNOWN" or "MALFORMED" end
  if not key then return "UNKNOWN" end
  -- Before all else: a limit is not read here, so nobody here knows whether the edge can judge the key at all.
  if key.own.has_limits or key.above.has_limits then return "ASK", "there are limits" end
  local verdict = decide(key, state, now, demanded, find_address)
  return verdict, verdict == "VALID" and key or nil
end

return M
