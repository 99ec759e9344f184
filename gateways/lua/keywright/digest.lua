--- Owns turning a key's text into its digest: HMAC-SHA-256 (RFC 2104) under the deployment's pepper.
--
-- The two keyed states are made once and copied. The pepper itself is not kept.

local ffi = require "ffi"
local system = require "keywright.replica.system"

local crypto = system.crypto
local M = {}

local BLOCK_BYTES, LEAST_PEPPER_BYTES = 64, 32
local STATE_BYTES = ffi.sizeof "keywright_sha256"
local ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local function sha256(bytes)
  local state, digest = ffi.new "keywright_sha256", ffi.new "unsigned char[32]"
  crypto.keywright_sha256_init(state)
  crypto.keywright_sha256_update(state, bytes, #bytes)
  crypto.keywright_sha256_final(digest, state)
  return ffi.string(digest, 32)
end

--- The bytes that base64 stands for; nil for what is none.
local function from_base64(text)
  local body = text:match "^%s*([A-Za-z0-9+/]+=?=?)%s*$"
  if not body or #body % 4 ~= 0 then return nil end
  local bytes, bits, held = {}, 0, 0
  for char in body:gsub("=", ""):gmatch "." do
    held, bits = (held * 64 + ALPHABET:find(char, 1, true) - 1) % 16777216, bits + 6
    if bits >= 8 then
      bits = bits - 8
      bytes[#bytes + 1] = string.char(math.floor(held / 2 ^ bits) % 256)
    end
  end
  return table.concat(bytes)
end

local Digester = {}
Digester.__index = Digester

--- `text` is the pepper as its file has it, in base64. Raises.
function M.new(text)
  local pepper = from_base64(text)
  if not pepper or #pepper < LEAST_PEPPER_BYTES then error("keywright: that is no pepper", 0) end
  if #pepper > BLOCK_BYTES then pepper = sha256(pepper) end
  local function keyed(mask)
    local state, block = ffi.new "keywright_sha256", ffi.new("unsigned char[?]", BLOCK_BYTES)
    ffi.copy(block, pepper, #pepper)
    for index = 0, BLOCK_BYTES - 1 do block[index] = bit.bxor(block[index], mask) end
    crypto.keywright_sha256_init(state)
    crypto.keywright_sha256_update(state, block, BLOCK_BYTES)
    return state
  end
  return setmetatable({
    inner = keyed(0x36), outer = keyed(0x5c), work = ffi.new "keywright_sha256", bytes = ffi.new "unsigned char[32]",
  }, Digester)
end

--- The pepper of a file. Raises where there is none, or it is not for this user.
function M.load(path)
  local file, problem = io.open(path)
  if not file then error("keywright: no pepper: " .. problem, 0) end
  local text = file:read "*a"
  file:close()
  return M.new(text)
end

--- The 32 bytes of a text, good until the next call.
function Digester:digest(text)
  local work, bytes = self.work, self.bytes
  ffi.copy(work, self.inner, STATE_BYTES)
  crypto.keywright_sha256_update(work, text, #text)
  crypto.keywright_sha256_final(bytes, work)
  ffi.copy(work, self.outer, STATE_BYTES)
  crypto.keywright_sha256_update(work, bytes, 32)
  crypto.keywright_sha256_final(bytes, work)
  return bytes
end

--- By which two processes see whether they have the same pepper.
function Digester:pepper_check()
  local bytes = self:digest "keywright pepper check"
  local digits = {}
  for index = 0, 7 do digits[#digits + 1] = ("%02x"):format(bytes[index]) end
  return table.concat(digits)
end

return M
