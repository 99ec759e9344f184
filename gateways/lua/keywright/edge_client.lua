--- Owns asking the edge beside the replica, from nginx: one GET of /v1/forward-auth/... over a kept connection.

local M = {}

local IDLE_MILLIS, POOL_SIZE = 20000, 32
local MAX_BODY = 65536

--- Host and port of `http://host:port`. Raises.
function M.parse(url)
  local host, port = url:match "^http://([%w.-]+):(%d+)/?$"
  if not host then error("keywright: `edge` is an address such as http://127.0.0.1:8080", 0) end
  return { host = host, port = tonumber(port) }
end

local function read_answer(sock)
  local line, problem = sock:receive "*l"
  if not line then return nil, problem end
  local status = tonumber(line:match "^HTTP/1%.[01] (%d%d%d)")
  if not status then return nil, "no HTTP" end
  local headers = {}
  while true do
    line, problem = sock:receive "*l"
    if not line then return nil, problem end
    if line == "" then break end
    local name, value = line:match "^([^:]+):%s*(.-)%s*$"
    if not name then return nil, "no HTTP" end
    headers[name:lower()] = value
  end
  local length = tonumber(headers["content-length"])
  if not length or length > MAX_BODY then return nil, "an answer without a length, or too long" end
  local body = ""
  if length > 0 then
    body, problem = sock:receive(length)
    if not body then return nil, problem end
  end
  return status, headers, body
end

local function exchange(edge, request, timeout_millis)
  local sock = ngx.socket.tcp()
  sock:settimeout(timeout_millis)
  local is_open, problem = sock:connect(edge.host, edge.port, { pool_size = POOL_SIZE })
  if not is_open then return nil, problem end
  local is_used = (sock:getreusedtimes() or 0) > 0
  local sent
  sent, problem = sock:send(request)
  local status, headers, body
  if sent then status, headers, body = read_answer(sock) end
  if not status then
    sock:close()
    return nil, headers or problem, is_used
  end
  if (headers.connection or ""):lower() == "close" then sock:close() else sock:setkeepalive(IDLE_MILLIS, POOL_SIZE) end
  return status, headers, body
end

--- Status, headers (names in lower case) and body; nil and why there are none. `lines` are headers to send.
function M.ask(edge, segment, lines, timeout_millis)
  for _, line in ipairs(lines) do
    if line:find "[\r\n%z]" then return nil, "a header of more than one line" end
  end
  local request = ("GET /v1/forward-auth/%s/ HTTP/1.1\r\nHost: %s:%d\r\n%s\r\n\r\n")
    :format(segment, edge.host, edge.port, table.concat(lines, "\r\n"))
  local status, headers, body = exchange(edge, request, timeout_millis)
  -- A kept connection may have been closed by the edge in this very moment.
  if not status and body == true then status, headers, body = exchange(edge, request, timeout_millis) end
  return status, headers, body
end

return M
