--- Owns looking up a key in a replica: its record and its consumer's, as src/keywright/edge/replica/reader.py finds them.
--
-- What can't be read here, or is not known here, raises: the edge beside the replica says what becomes of that.

local ffi = require "ffi"
local environment = require "keywright.replica.environment"
local powers = require "keywright.powers"
local json = require "keywright.powers.json"
local records = require "keywright.replica.records"
local scopes = require "keywright.powers.scopes"

local M = {}

--- How many keys a worker keeps decoded, for as long as nothing is committed to the replica.
local KEPT = 10000
local FORMATS = { ["2"] = true, ["3"] = true }

local Replica = {}
Replica.__index = Replica

--- `pepper_check` is what the snapshot must be of: 16 hexadecimal digits.
function M.new(directory, pepper_check)
  return setmetatable({
    environment = environment.new(directory), pepper_check = pepper_check,
    view_id = nil, view_generation = nil, buckets = nil, found = nil, count = 0, name = ffi.new "unsigned char[36]",
  }, Replica)
end

local function text_of(env, database, name)
  local bytes, count = env:get(database, name, #name)
  return bytes and ffi.string(bytes, count)
end

--- What is decoded of the state that one transaction's number stands for.
function Replica:new_view(env, id)
  self.view_id, self.view_generation, self.buckets, self.found, self.count = nil, nil, {}, {}, 0
  if not FORMATS[text_of(env, "meta", "format") or ""] then error("a replica of another format", 0) end
  local features = text_of(env, "meta", "features")
  if features and #json.decode(features) > 0 then error("a replica with features that are not known here", 0) end
  if text_of(env, "meta", "pepper") ~= self.pepper_check or not text_of(env, "meta", "revision") then
    error("no snapshot yet, or one of another pepper", 0)
  end
  self.view_id, self.view_generation = id, env.generation
end

function Replica:find_bucket(env, name)
  local bucket = self.buckets[name]
  if bucket then return bucket end
  if #name == 0 or #name > 255 or name:find "[\128-\255]" then return nil end
  local bytes, count = env:get("buckets", name, #name)
  if not bytes then return nil end
  bucket = records.decode_bucket(name, ffi.string(bytes, records.checked(name, #name, bytes, count)))
  local number = records.pack_bucket(bucket.number)
  bytes, count = env:get("buckets3", number, 4)
  if bytes then
    local defaults, features = records.decode_bucket3(ffi.string(bytes, records.checked(number, 4, bytes, count)))
    for _, feature in ipairs(features) do
      if not powers.is_known(feature) then error("a bucket with powers that are not known here", 0) end
    end
    bucket.default_scopes = #defaults > 0 and scopes.new(defaults) or nil
    bucket.has_powers = #features > 0 or bucket.default_scopes ~= nil
  end
  self.buckets[name] = bucket
  return bucket
end

local plan_name = ffi.new "unsigned char[12]"

function Replica:plan(env, bucket, number)
  local name = plan_name
  ffi.copy(name, records.pack_bucket(bucket.number), 4)
  local high = math.floor(number / 4294967296)
  for index = 0, 3 do
    name[4 + index] = math.floor(high / 256 ^ (3 - index)) % 256
    name[8 + index] = math.floor(number / 256 ^ (3 - index)) % 256
  end
  local bytes, count = env:get("plans3", name, 12)
  if not bytes then error("a plan that is not here", 0) end
  local text = records.decode_plan(ffi.string(bytes, records.checked(name, 12, bytes, count)))
  return text and powers.decode(text) or powers.NONE
end

local consumer_number = ffi.new "unsigned char[8]"

--- The key that the name stands for, with its consumer's part; nil when there is none, false without its consumer.
function Replica:find_key(env, bucket)
  local name = self.name
  local bytes, count = env:get("keys", name, 36)
  local decode = records.decode_key
  if not bytes then
    if not bucket.has_powers then return nil end
    bytes, count = env:get("keys3", name, 36)
    if not bytes then return nil end
    decode = records.decode_key3
  end
  local key_id, expires_at, own = decode(bytes, records.checked(name, 36, bytes, count))
  ffi.copy(consumer_number, bytes, 8)
  own = own and powers.decode(own)

  bytes, count = env:get("consumers", consumer_number, 8)
  decode = records.decode_consumer
  if not bytes and bucket.has_powers then
    bytes, count = env:get("consumers3", consumer_number, 8)
    decode = records.decode_consumer3
  end
  if not bytes or records.u32(bytes, 0) ~= bucket.number then return false end
  local consumer_id, consumer, metadata, above = decode(bytes, records.checked(consumer_number, 8, bytes, count))
  above = above and powers.decode(above)
  if bucket.has_powers then
    local plan = above and above.plan and self:plan(env, bucket, above.plan) or nil
    if plan or bucket.default_scopes then above = powers.inheriting(above, plan, bucket.default_scopes) end
  end
  return {
    key_id = key_id, expires_at = expires_at, own = own or powers.NONE, above = above or powers.NONE,
    consumer_id = consumer_id, consumer = consumer, metadata = metadata,
  }
end

--- In a transaction: the bucket (nil: there is none), and the key with this digest (nil: none is looked for).
local function read(env, self, bucket_name, digest)
  local id = env:txn_id()
  if self.view_id ~= id or self.view_generation ~= env.generation then self:new_view(env, id) end
  local bucket = self:find_bucket(env, bucket_name)
  if not bucket then return false end
  if not digest then return bucket end
  local name = self.name
  ffi.copy(name, records.pack_bucket(bucket.number), 4)
  ffi.copy(name + 4, digest, 32)
  local kept_under = ffi.string(name, 36)
  local key = self.found[kept_under]
  if not key then
    key = self:find_key(env, bucket)
    if key then
      if self.count >= KEPT then self.found, self.count = {}, 0 end
      self.found[kept_under], self.count = key, self.count + 1
    end
  end
  return bucket, key
end

--- The bucket of this name and its key with this digest. Bucket false: there is none; nil: can't say, and why.
function Replica:find(now, bucket_name, digest)
  return self.environment:with(now, read, self, bucket_name, digest)
end

return M
