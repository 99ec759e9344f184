--- Owns the page `state`: since when the replica is out of step, until when it may answer, and what time it is.
--
-- Times are milliseconds that this machine counts since it started (CLOCK_BOOTTIME). A slot of another start of the
-- machine, of another layout or with another checksum says nothing; then `is_known` is false, and the edge is asked.
-- Where somebody has written the note `lease.json` since, and not the slot, it was an older edge: that counts as well.

local ffi = require "ffi"
local records = require "keywright.replica.records"
local system = require "keywright.replica.system"

local C = system.C
local M = {}

local READ_MILLIS = 100
local SLOT_BYTES, NONE = 64, -9223372036854775808
local IN_STEP, CLOCK, LEASE = "in-step1", "clock--1", "lease--1"
local BOOT_ID = "/proc/sys/kernel/random/boot_id"

local State = {}
State.__index = State

local function find_boot_id()
  local file = io.open(BOOT_ID)
  if not file then return nil end
  local digits = file:read("*l"):gsub("%-", "")
  file:close()
  return (digits:gsub("%x%x", function(pair) return string.char(tonumber(pair, 16)) end))
end

function M.new(directory)
  return setmetatable({
    path = directory .. "/state", note = directory .. "/lease.json", boot = find_boot_id(),
    bytes = ffi.new "unsigned char[192]", read_at = -math.huge, is_known = false,
  }, State)
end

local function i64(bytes, at)
  local high = records.u32(bytes, at)
  if high >= 2147483648 then high = high - 4294967296 end
  return high * 4294967296 + records.u32(bytes, at + 4)
end

--- The four numbers of a slot, if it is one of this start of the machine.
function State:slot(index, mark)
  local bytes = self.bytes + index * SLOT_BYTES
  if records.u32(bytes, 60) ~= records.crc32(bytes, 60) then return nil end
  if ffi.string(bytes, 8) ~= mark or ffi.string(bytes + 8, 16) ~= self.boot then return nil end
  return i64(bytes, 24), i64(bytes, 32), i64(bytes, 40), i64(bytes, 48)
end

function State:read(now)
  self.read_at, self.is_known, self.in_step_at = now, false, nil
  local file = system.open(self.path)
  if file < 0 or not self.boot then return end
  local count = tonumber(C.keywright_pread(file, self.bytes, 3 * SLOT_BYTES, 0))
  C.keywright_close(file)
  if count ~= 3 * SLOT_BYTES then return end
  local start, least = self:slot(1, CLOCK)
  local until_, allowed, seconds, nanoseconds = self:slot(2, LEASE)
  if not start or not until_ then return end
  local note = system.stat(self.note)
  local noted, fraction = 0, 0
  if note then noted, fraction = tonumber(note.written.seconds), note.written.nanoseconds end
  if noted ~= seconds or fraction ~= nanoseconds then return end
  local in_step = self:slot(0, IN_STEP)
  -- A time to come is nobody's.
  self.in_step_at = in_step and in_step <= now and in_step or nil
  self.start, self.least, self.until_, self.allowed = start, least, until_, allowed
  self.is_known = true
end

--- Whether it can be told from the page, as it is by now (milliseconds of CLOCK_BOOTTIME), how old the replica is.
function State:refresh(now)
  if now - self.read_at >= READ_MILLIS then self:read(now) end
  return self.is_known
end

--- How long the replica may have been out of step, in milliseconds; nil where the page doesn't say.
function State:lag(now)
  return self.in_step_at and now - self.in_step_at
end

--- Whether no key may be answered for; nil where the page doesn't say.
function State:is_over(now)
  if self.until_ ~= NONE and now > self.until_ then return true end
  if self.allowed == NONE then return false end
  local lag = self:lag(now)
  if lag then return lag > self.allowed end
end

--- The time by the origin's clock, in milliseconds since the epoch.
function State:time(now)
  if self.start ~= NONE then return math.floor(self.start + now) end
  local own = math.floor(system.millis(system.REALTIME))
  if self.least ~= NONE and own < self.least + now then return math.floor(self.least + now) end
  return own
end

return M
