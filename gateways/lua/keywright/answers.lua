--- Owns what is said where a key is refused: statuses, challenges and problem documents (RFC 9457), in the edge's words.

local json = require "keywright.powers.json"

local M = {}

local TITLES = { [401] = "Unauthorized", [403] = "Forbidden", [503] = "Service Unavailable" }
local MAX_INSTANCE = 1024
local INVALID = 'error="invalid_token"'
local UNCHECKED = "The key could not be checked."

--- Status, detail, and what the challenge says (nil: there is none). Made from format strings by `refuse`.
local REASONS = {
  -- RFC 6750 section 3.1: no error code where no credentials were shown.
  MISSING = { 401, "There is no key in the request.", nil },
  AMBIGUOUS = { 401, "There is more than one header with a key.", 'error="invalid_request"' },
  MALFORMED = { 401, "The key is malformed.", INVALID },
  UNKNOWN = { 401, "The key is unknown.", INVALID },
  EXPIRED = { 401, "The key has expired.", INVALID },
  DISABLED = { 401, "The key is switched off.", INVALID },
  -- No challenge: other credentials are not what it wants.
  IP_NOT_ALLOWED = { 403, "The key may not be used from this address.", nil },
  INSUFFICIENT_SCOPE = { 403, "The key is not good for this: %s.", nil },
}

local function document(status, detail, path, request_id)
  return ('{"type":"https://httpproblems.com/http-status/%d","title":"%s","status":%d,"detail":%s,"instance":%s,"requestId":%s}')
    :format(status, TITLES[status], status, json.quote(detail), json.quote(path:sub(1, MAX_INSTANCE)), json.quote(request_id))
end

local function answer(status, detail, path, request_id, challenge)
  local headers = {
    ["content-type"] = "application/problem+json", ["cache-control"] = "no-store", ["x-request-id"] = request_id,
    ["www-authenticate"] = challenge,
  }
  if status == 503 then headers["retry-after"] = "1" end
  return { status = status, headers = headers, body = document(status, detail, path, request_id) }
end

--- The answer to a request whose key got this verdict, or that shows none. Whatever isn't a verdict on a key is a 503:
-- that there is no such bucket is the gateway's mistake, not the client's.
function M.refuse(code, question, scheme, path, request_id)
  local reason = REASONS[code]
  if not reason then return answer(503, UNCHECKED, path, request_id) end
  local status, detail, challenge = reason[1], reason[2], reason[3]
  if code == "INSUFFICIENT_SCOPE" then
    local wanted = table.concat(question.scopes, " ")
    detail, challenge = detail:format(wanted), ('error="insufficient_scope", scope="%s"'):format(wanted)
  elseif code == "MISSING" then
    challenge = ('realm="%s"'):format(question.bucket)
  end
  return answer(status, detail, path, request_id, challenge and scheme .. " " .. challenge)
end

local PASSED_ON = {
  ["content-type"] = true, ["www-authenticate"] = true, ["retry-after"] = true, ["ratelimit"] = true,
  ["ratelimit-policy"] = true, ["cache-control"] = true, ["x-request-id"] = true,
}

--- Of the headers that an edge answered with (names in lower case), those that are the client's to see.
function M.headers_for_client(headers)
  local told = {}
  for name, value in pairs(headers) do
    if PASSED_ON[name] then told[name] = value end
  end
  return told
end

return M
