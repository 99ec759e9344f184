--- Owns IP addresses and networks: one spelling each, as src/keywright/domain/networks.py has it.
--
-- An address is the bytes that inet_pton makes of it, 4 or 16 of them. IPv4 that is written as IPv6 is the IPv4 address.

local ffi = require "ffi"
local system = require "keywright.replica.system"

local C = system.C
local IPV4, IPV6 = 2, 10
local MAPPED = ("\0"):rep(10) .. "\255\255"

local M = {}

local packed = ffi.new "unsigned char[16]"

local function pton(text)
  -- Behind a NUL C would not see what else there is.
  if text:find("\0", 1, true) or #text > 64 then return nil end
  local family = text:find(":", 1, true) and IPV6 or IPV4
  if C.keywright_inet_pton(family, text, packed) ~= 1 then return nil end
  return ffi.string(packed, family == IPV6 and 16 or 4)
end

--- The address in a text; nil for anything else: a name, a port, a mask, a zone, several.
function M.parse_address(text)
  local address = text and pton(text)
  if address and #address == 16 and address:sub(1, 12) == MAPPED then return address:sub(13) end
  return address
end

--- Whether an address is in a network that begins with the same bits.
local function holds(network, address)
  if #address ~= #network.first then return false end
  local whole = math.floor(network.bits / 8)
  if address:sub(1, whole) ~= network.first:sub(1, whole) then return false end
  local rest = network.bits % 8
  if rest == 0 then return true end
  local mask = 256 - 2 ^ (8 - rest)
  return bit.band(address:byte(whole + 1), mask) == bit.band(network.first:byte(whole + 1), mask)
end

--- Raises for what src/keywright would not take for a network either.
local function parse_network(text)
  local plain, bits = text, nil
  local slash = text:find("/", 1, true)
  if slash then plain, bits = text:sub(1, slash - 1), text:sub(slash + 1) end
  local first = pton(plain)
  if not first or (first:sub(1, 12) == MAPPED and #first == 16) then error("not a network", 0) end
  local length = #first * 8
  if bits and not bits:match "^%d%d?%d?$" then error("not a network", 0) end
  bits = bits and tonumber(bits) or length
  if bits > length then error("not a network", 0) end
  for index = 1, #first do
    local here = math.min(8, math.max(0, bits - (index - 1) * 8))
    if first:byte(index) % 2 ^ (8 - here) ~= 0 then error("not a network", 0) end
  end
  return { first = first, bits = bits }
end

--- The networks in a list of texts.
function M.parse(texts)
  local networks = {}
  for index, text in ipairs(texts) do networks[index] = parse_network(text) end
  return networks
end

--- Whether one of them holds an address. One that is not known (nil) is in no network.
function M.hold(networks, address)
  if not address then return false end
  for _, network in ipairs(networks) do
    if holds(network, address) then return true end
  end
  return false
end

return M
