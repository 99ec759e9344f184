--- Owns scopes: when those that were granted cover one that is demanded, as src/keywright/domain/scopes.py has it.

local M = {}

--- Scopes that were granted, ready to be asked.
function M.new(names)
  local set = {}
  for _, name in ipairs(names) do set[name] = true end
  return { names = names, set = set }
end

local function covers(granted, scope)
  local set = granted.set
  if set["*"] or set[scope] then return true end
  local stop = scope:find(":", 1, true)
  while stop do
    if set[scope:sub(1, stop) .. "*"] then return true end
    stop = scope:find(":", stop + 1, true)
  end
  return false
end

--- Whether all of a list of scopes are granted.
function M.cover_all(granted, scopes)
  for _, scope in ipairs(scopes) do
    if not covers(granted, scope) then return false end
  end
  return true
end

--- The scopes that may be demanded of a key, in order: of its own those that its consumer's cover, and the other way.
function M.list_granted(own, above)
  if not above then return {} end
  own = own or above
  local both, listed = {}, {}
  for _, name in ipairs(own.names) do both[name] = covers(above, name) or both[name] end
  for _, name in ipairs(above.names) do both[name] = covers(own, name) or both[name] end
  for name, is_granted in pairs(both) do
    if is_granted then listed[#listed + 1] = name end
  end
  table.sort(listed)
  return listed
end

--- What is wrong with scopes that a route demands; nil where nothing is.
function M.find_fault(scopes)
  local seen = {}
  if #scopes > 50 then return "at most 50 scopes" end
  for _, scope in ipairs(scopes) do
    local body = scope:gsub(":%*$", ""):gsub("^%*$", "x")
    if #scope > 100 or body == "" or (":" .. body):gsub(":[%w%._%-]+", "") ~= "" then return "no scope: " .. scope end
    if seen[scope] then return "twice: " .. scope end
    seen[scope] = true
  end
end

return M
