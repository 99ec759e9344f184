--- Owns reading JSON, as the records hold it, and writing texts into it. Strict: what is not JSON raises.

local M = {}

--- Stands for JSON's null.
M.null = setmetatable({}, { __tostring = function() return "null" end })

local MAX_DEPTH = 32
local ESCAPED = { ['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }

local function fail(at)
  error("not JSON, at byte " .. at, 0)
end

local function utf8(code)
  local char = string.char
  if code < 0x80 then return char(code) end
  if code < 0x800 then return char(0xc0 + math.floor(code / 64), 0x80 + code % 64) end
  if code < 0x10000 then
    return char(0xe0 + math.floor(code / 4096), 0x80 + math.floor(code / 64) % 64, 0x80 + code % 64)
  end
  return char(0xf0 + math.floor(code / 262144), 0x80 + math.floor(code / 4096) % 64,
    0x80 + math.floor(code / 64) % 64, 0x80 + code % 64)
end

local function skip(text, at)
  return text:find("[^ \t\r\n]", at) or #text + 1
end

local function unicode(text, at)
  local digits = text:match("^%x%x%x%x", at + 2)
  if not digits then fail(at) end
  return tonumber(digits, 16)
end

local function read_string(text, at)
  local parts, from = {}, at + 1
  while true do
    local stop = text:find('["\\%c]', from)
    if not stop then fail(at) end
    parts[#parts + 1] = text:sub(from, stop - 1)
    local found = text:sub(stop, stop)
    if found == '"' then return table.concat(parts), stop + 1 end
    if found == "\127" then
      -- Lua counts DEL among the control characters, JSON does not.
      parts[#parts + 1], from = found, stop + 1
    elseif found ~= "\\" then
      fail(stop)
    else
      local kind = text:sub(stop + 1, stop + 1)
      if kind == "u" then
        local code = unicode(text, stop)
        from = stop + 6
        if code >= 0xd800 and code < 0xdc00 and text:sub(from, from + 1) == "\\u" then
          local low = unicode(text, from)
          if low >= 0xdc00 and low < 0xe000 then
            code, from = 0x10000 + (code - 0xd800) * 1024 + low - 0xdc00, from + 6
          end
        end
        parts[#parts + 1] = utf8(code)
      else
        parts[#parts + 1], from = ESCAPED[kind] or fail(stop), stop + 2
      end
    end
  end
end

local function read_number(text, at)
  local stop = text:find("[^%d%.eE%+%-]", at) or #text + 1
  local digits = text:sub(at, stop - 1)
  local whole = digits:match "^%-?(%d+)"
  local is_right = whole and (whole == "0" or whole:sub(1, 1) ~= "0")
    and (digits:match "^%-?%d+$" or digits:match "^%-?%d+%.%d+$" or digits:match "^%-?%d+[eE][%+%-]?%d+$"
      or digits:match "^%-?%d+%.%d+[eE][%+%-]?%d+$")
  return is_right and tonumber(digits) or fail(at), stop
end

local read

local function read_list(text, at, depth)
  local list, count = {}, 0
  at = skip(text, at + 1)
  if text:sub(at, at) == "]" then return list, at + 1 end
  while true do
    count = count + 1
    list[count], at = read(text, at, depth)
    at = skip(text, at)
    local mark = text:sub(at, at)
    if mark == "]" then return list, at + 1 end
    if mark ~= "," then fail(at) end
    at = at + 1
  end
end

local OBJECT = { is_object = true }

local function read_object(text, at, depth)
  local object = setmetatable({}, OBJECT)
  at = skip(text, at + 1)
  if text:sub(at, at) == "}" then return object, at + 1 end
  while true do
    at = skip(text, at)
    if text:sub(at, at) ~= '"' then fail(at) end
    local name
    name, at = read_string(text, at)
    at = skip(text, at)
    if text:sub(at, at) ~= ":" then fail(at) end
    object[name], at = read(text, at + 1, depth)
    at = skip(text, at)
    local mark = text:sub(at, at)
    if mark == "}" then return object, at + 1 end
    if mark ~= "," then fail(at) end
    at = at + 1
  end
end

function read(text, at, depth)
  if depth > MAX_DEPTH then fail(at) end
  at = skip(text, at)
  local mark = text:sub(at, at)
  if mark == "{" then return read_object(text, at, depth + 1) end
  if mark == "[" then return read_list(text, at, depth + 1) end
  if mark == '"' then return read_string(text, at) end
  if text:sub(at, at + 3) == "true" then return true, at + 4 end
  if text:sub(at, at + 4) == "false" then return false, at + 5 end
  if text:sub(at, at + 3) == "null" then return M.null, at + 4 end
  return read_number(text, at)
end

--- The value that a text holds. An object can be told from a list by `is_object`.
function M.decode(text)
  local value, at = read(text, 1, 0)
  if skip(text, at) <= #text then fail(at) end
  return value
end

function M.is_object(value)
  return type(value) == "table" and getmetatable(value) == OBJECT
end

function M.is_list(value)
  return type(value) == "table" and getmetatable(value) == nil
end

--- A text of ASCII characters as JSON. Others become what JSON has for a character that is none.
function M.quote(text)
  return '"' .. text:gsub('[%c"\\\128-\255]', function(char)
    local byte = char:byte()
    return byte < 128 and ("\\u%04x"):format(byte) or "\\ufffd"
  end) .. '"'
end

return M
