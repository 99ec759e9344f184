--- Owns how records are laid out: their bytes in, Lua values out (docs/reference/replica-format.md).
--
-- What is not as it was written raises; whoever reads asks the edge then, and guesses nothing.

local ffi = require "ffi"
local json = require "keywright.powers.json"
local system = require "keywright.replica.system"

local zlib = system.zlib
local band, bor, lshift, rshift = bit.band, bit.bor, bit.lshift, bit.rshift

local M = {}

local ID_LENGTH, CHECK_BYTES = 24, 4
local KEY_BYTES = 8 + ID_LENGTH

local function u32(bytes, at)
  return bytes[at] * 16777216 + bytes[at + 1] * 65536 + bytes[at + 2] * 256 + bytes[at + 3]
end

local function u64(bytes, at)
  return u32(bytes, at) * 4294967296 + u32(bytes, at + 4)
end

M.u32, M.u64 = u32, u64

--- CRC-32 (ISO 3309) of some bytes, or of what follows those that `before` is of.
function M.crc32(bytes, count, before)
  return tonumber(zlib.keywright_crc32(before or 0, bytes, count))
end

--- How many bytes are the value itself. Raises if they and their name are not what was written.
function M.checked(name, name_length, bytes, count)
  local length = count - CHECK_BYTES
  if length < 0 or u32(bytes, length) ~= M.crc32(bytes, length, M.crc32(name, name_length)) then
    error("a record is not as it was written", 0)
  end
  return length
end

local number = ffi.new "unsigned char[4]"

--- A bucket's number as the names of its keys begin with it; good until the next call.
function M.pack_bucket(n)
  number[0], number[1] = band(rshift(n, 24), 255), band(rshift(n, 16), 255)
  number[2], number[3] = band(rshift(n, 8), 255), band(n, 255)
  return number
end

local function whole(value, what)
  if type(value) ~= "number" or value % 1 ~= 0 or value < 0 then error("not a record: " .. what, 0) end
  return value
end

function M.decode_bucket(name, text)
  local row = json.decode(text)
  if type(row) ~= "table" or type(row[2]) ~= "string" then error("not a bucket", 0) end
  local refuse_after = row[5]
  if refuse_after == json.null then refuse_after = nil end
  return {
    name = name,
    number = whole(row[1], "number"),
    id = row[2],
    refuse_after = refuse_after ~= nil and whole(refuse_after, "refuseAfter") or nil,
    default_scopes = nil,
    features = {},
    has_powers = false,
  }
end

--- What stands apart from a bucket: scopes that its consumers inherit, and the names of powers in it.
function M.decode_bucket3(text)
  local row = json.decode(text)
  if type(row) ~= "table" or type(row[1]) ~= "table" or type(row[2]) ~= "table" then error("not a bucket", 0) end
  return row[1], row[2]
end

local function is_never(bytes, at)
  return u32(bytes, at) == 4294967295 and u32(bytes, at + 4) == 4294967295
end

--- A key: id, when it expires in milliseconds (nil: never), the text of its powers (nil: none).
function M.decode_key(bytes, length)
  if length ~= KEY_BYTES and length ~= KEY_BYTES + 8 then error("not a key", 0) end
  local expires_at = length > KEY_BYTES and u64(bytes, KEY_BYTES) or nil
  return "key_" .. ffi.string(bytes + 8, ID_LENGTH), expires_at, nil
end

function M.decode_key3(bytes, length)
  if length < KEY_BYTES + 8 then error("not a key", 0) end
  local expires_at = not is_never(bytes, KEY_BYTES) and u64(bytes, KEY_BYTES) or nil
  return "key_" .. ffi.string(bytes + 8, ID_LENGTH), expires_at,
    ffi.string(bytes + KEY_BYTES + 8, length - KEY_BYTES - 8)
end

--- A consumer: id, name, its metadata as JSON.
function M.decode_consumer(bytes, length)
  local start = 29 + (length > 28 and bytes[28] or 0)
  if length < start then error("not a consumer", 0) end
  return "csmr_" .. ffi.string(bytes + 4, ID_LENGTH), ffi.string(bytes + 29, start - 29),
    ffi.string(bytes + start, length - start)
end

function M.decode_consumer3(bytes, length)
  local count = length >= 4 and u32(bytes, length - 4) or math.huge
  if length - 4 < count then error("not a consumer", 0) end
  local id, name, metadata = M.decode_consumer(bytes, length - 4 - count)
  return id, name, metadata, ffi.string(bytes + length - 4 - count, count)
end

--- A plan's powers as text; nil where it has none.
function M.decode_plan(text)
  local row = json.decode(text)
  local powers = type(row) == "table" and row[3] or nil
  if powers == json.null then return nil end
  if type(powers) ~= "string" then error("not a plan", 0) end
  return powers
end

return M
