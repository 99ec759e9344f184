--- Owns how a request shows a key in a header, as src/keywright/http/credentials.py has it.

local M = {}

local SPACE, TAB = 32, 9

local Header = {}
Header.__index = Header

--- The header `name`, with the key after `scheme` (in any case) and spaces; "" for the bare header.
function M.new(name, scheme)
  local spoken = scheme:lower()
  return setmetatable({
    name = name:lower(), scheme = spoken, challenge = scheme ~= "" and scheme or "ApiKey",
    again = ",[ \t]*" .. spoken:gsub("[^%w]", "%%%0") .. "[ \t]",
  }, Header)
end

--- What follows the scheme in a value of the header; nil when there is nothing, or another scheme's.
local function find_secret(self, value)
  local length = #self.scheme
  if length > 0 then
    local mark = value:byte(length + 1)
    if (mark ~= SPACE and mark ~= TAB) or value:sub(1, length):lower() ~= self.scheme then return nil end
    value = value:sub(length + 2)
  end
  local first, last = value:byte(1), value:byte(-1)
  -- As it is mostly, and without a pattern, which LuaJIT doesn't compile.
  if first and first ~= SPACE and last ~= SPACE and last ~= TAB then return value end
  -- RFC 9110 section 11.4: one space or several; section 5.5: a value has no white space at its end.
  value = value:match "^ *(.-)[ \t]*$"
  return value ~= "" and value or nil
end

--- Whether a value is those of several headers, joined by a proxy (RFC 9110 section 5.2): a scheme begins once more.
local function is_joined(self, value)
  if self.scheme == "" or not value:find(",", 1, true) then return false end
  return value:lower():find(self.again) ~= nil
end

--- The key of a request with these values of the header (a list); or nil and why there is none.
function Header:read(values)
  if #values > 1 or (values[1] and is_joined(self, values[1])) then return nil, "AMBIGUOUS" end
  local secret = values[1] and find_secret(self, values[1])
  if not secret then return nil, "MISSING" end
  return secret
end

return M
