--- Owns the open LMDB environment: one for each process, whichever of its Lua machines reads.
--
-- LMDB must not be opened twice in one process: its readers are told to be alive by locks that the kernel keeps for the
-- process, and takes away when any file of that inode is closed. Envoy has a Lua machine a worker thread, and new ones
-- with each change of its configuration, so what is open stands in a page of memory (a memfd) that each machine finds
-- by its name. A read-write lock stands before it: look-ups share it, and whoever closes the files or maps them anew
-- has it alone. A look-up takes microseconds and never yields.
--
-- Files that were replaced or marked are let go of within LOOK_MILLIS, as src/keywright/edge/replica/in_use.py wants.

local ffi = require "ffi"
local system = require "keywright.replica.system"

local C, lmdb = system.C, system.lmdb

ffi.cdef [[
typedef struct {
  uint8_t lock[128];
  keywright_env *env;
  uint64_t inode;
  double generation, looked_at;
  int32_t pid, in_use;
  uint32_t dbi[10];
} keywright_shared;
]]

local M = {}

local LOOK_MILLIS, TRY_MILLIS = 1000, 100
local MAP_BYTES = 64 * 1024 * 1024 * 1024ULL
local READ_ONLY, NO_TLS = 0x20000, 0x200000
local NOT_FOUND, MAP_RESIZED = -30798, -30785
local MAX_READERS, MAX_DBS = 512, 16
local LOCK_SHARED, LOCK_ALONE, NO_WAIT = 1, 2, 4
local DATABASES = { "meta", "buckets", "bucket_names", "consumers", "keys", "buckets3", "consumers3", "keys3", "plans3" }

local Environment = {}
Environment.__index = Environment

--- The environment in a directory; opened when it is first read.
function M.new(path)
  return setmetatable({
    path = path, shared = nil, txn = nil, generation = 0, tried_at = -math.huge,
    handle = ffi.new "keywright_txn *[1]", key = ffi.new "keywright_val", value = ffi.new "keywright_val",
    data_file = path .. "/data.mdb", mark_file = path .. "/condemned", lock_file = path .. "/in-use.lock",
    db = {},
  }, Environment)
end

local function find_memory(name)
  local directory = C.keywright_opendir "/proc/self/fd"
  if directory == nil then return nil end
  local target, found = ffi.new "char[512]", nil
  while not found do
    local entry = C.keywright_readdir(directory)
    if entry == nil then break end
    local file = ffi.string(entry.name)
    local length = tonumber(C.keywright_readlink("/proc/self/fd/" .. file, target, 512))
    if length > 0 and ffi.string(target, length):sub(1, #name + 7) == "/memfd:" .. name then found = tonumber(file) end
  end
  C.keywright_closedir(directory)
  return found
end

--- Find the page of this process, or make it. Only one machine of all processes is at it in a moment.
function Environment:attach()
  local guard = system.open(self.path, system.DIRECTORY)
  if guard < 0 then return nil, "there is no replica in " .. self.path .. ", or it is not for this user" end
  if C.keywright_flock(guard, LOCK_ALONE + NO_WAIT) ~= 0 then
    C.keywright_close(guard)
    return nil, "the replica is being opened"
  end
  local directory = system.stat_of(guard)
  local pid = C.keywright_getpid()
  -- Behind the number stands a mark: what begins like it is another's.
  local name = ("keywright.%d.%x.%s."):format(pid, tonumber(directory.device_minor), tostring(directory.inode))
  local file = find_memory(name)
  local is_new = file == nil
  if is_new then
    file = C.keywright_memfd_create(name, 1)
    if file >= 0 then C.keywright_ftruncate(file, 4096) end
  end
  local problem
  if file >= 0 then
    local address = C.keywright_mmap(nil, 4096, 3, 1, file, 0)
    if ffi.cast("intptr_t", address) == -1 then
      problem = "no memory"
    else
      self.shared = ffi.cast("keywright_shared *", address)
      if is_new then
        C.keywright_rwlock_init(self.shared.lock, nil)
        self.shared.pid, self.shared.in_use = pid, -1
      end
    end
  else
    problem = "no memory"
  end
  C.keywright_close(guard)
  return self.shared, problem
end

local function message(code)
  return ffi.string(lmdb.keywright_strerror(code))
end

--- A file that is shorter than its own first page says would kill the process with SIGBUS when it is read.
local function has_its_length(env, path)
  local stat, info = ffi.new "keywright_lmdb_stat", ffi.new "keywright_lmdb_info"
  lmdb.keywright_env_stat(env, stat)
  lmdb.keywright_env_info(env, info)
  local used = (tonumber(info.last_page) + 1) * stat.page_bytes
  local file = system.stat(path)
  return file ~= nil and tonumber(file.bytes) >= used
end

local function open_databases(env, dbi)
  local handle = ffi.new "keywright_txn *[1]"
  local code = lmdb.keywright_txn_begin(env, nil, READ_ONLY, handle)
  if code ~= 0 then return message(code) end
  for index, name in ipairs(DATABASES) do
    code = lmdb.keywright_dbi_open(handle[0], name, 0, dbi + index)
    if code ~= 0 then
      lmdb.keywright_txn_abort(handle[0])
      -- A database is missing in what an older edge keeps, or what is just being made.
      return code == NOT_FOUND and "there is no database " .. name or message(code)
    end
  end
  code = lmdb.keywright_txn_commit(handle[0])
  if code ~= 0 then return message(code) end
end

--- Open the files, with the lock held alone. Returns what is in the way.
function Environment:open_alone()
  local shared = self.shared
  if system.stat(self.mark_file) then return "broken pages were met" end
  local in_use = system.open(self.lock_file)
  if in_use < 0 then return "nobody keeps a replica there" end
  -- Held by an edge alone while it judges or replaces the files.
  local is_ours = C.keywright_flock(in_use, LOCK_SHARED + NO_WAIT) == 0
  local data = system.stat(self.data_file)
  if not is_ours or not data then
    C.keywright_close(in_use)
    return "the files are being made"
  end
  local inode = data.inode
  local handle = ffi.new "keywright_env *[1]"
  local code = lmdb.keywright_env_create(handle)
  if code ~= 0 then
    C.keywright_close(in_use)
    return message(code)
  end
  local env = handle[0]
  lmdb.keywright_env_set_maxdbs(env, MAX_DBS)
  lmdb.keywright_env_set_maxreaders(env, MAX_READERS)
  lmdb.keywright_env_set_mapsize(env, MAP_BYTES)
  code = lmdb.keywright_env_open(env, self.path, READ_ONLY + NO_TLS, 0x180)
  local problem = code ~= 0 and message(code) or nil
  local opened = system.stat(self.data_file)
  if not problem and (not opened or opened.inode ~= inode) then problem = "the files were replaced" end
  if not problem and not has_its_length(env, self.data_file) then problem = "data.mdb is too short" end
  problem = problem or open_databases(env, shared.dbi)
  if problem then
    lmdb.keywright_env_close(env)
    C.keywright_close(in_use)
    return problem
  end
  shared.env, shared.inode, shared.in_use = env, inode, in_use
  shared.generation = shared.generation + 1
  shared.looked_at = system.millis(system.BOOTTIME)
end

local function close_alone(shared)
  if shared.env ~= nil then
    lmdb.keywright_env_close(shared.env)
    C.keywright_close(shared.in_use)
    shared.env, shared.in_use = nil, -1
  end
end

--- Whether the files are those of the directory, and nobody asks to let go of them.
function Environment:is_current()
  local shared = self.shared
  local data = system.stat(self.data_file)
  if not data or data.inode ~= shared.inode or system.stat(self.mark_file) then return false end
  local lock = system.stat_of(shared.in_use)
  local inode = lock and lock.inode
  lock = system.stat(self.lock_file)
  return lock ~= nil and lock.inode == inode
end

--- Have the files open that are there now. Returns true, or nil and what is in the way.
function Environment:ready(now)
  local shared = self.shared
  if shared and shared.env ~= nil and now - shared.looked_at < LOOK_MILLIS then return true end
  if now - self.tried_at < TRY_MILLIS then return nil, self.problem end
  if not shared or shared.pid ~= C.keywright_getpid() then
    -- A child of the process that opened the files has nothing of its own yet.
    self.tried_at, self.txn, self.shared = now, nil, nil
    shared, self.problem = self:attach()
    if not shared then return nil, self.problem end
  end
  C.keywright_rwlock_wrlock(shared.lock)
  local is_done, problem = pcall(function()
    if shared.env ~= nil and self:is_current() then
      shared.looked_at = now
      return nil
    end
    close_alone(shared)
    return self:open_alone()
  end)
  C.keywright_rwlock_unlock(shared.lock)
  self.problem = problem
  if not is_done or problem then
    self.tried_at = now
    return nil, problem
  end
  return true
end

function Environment:begin()
  local shared = self.shared
  if shared.env == nil then return "the files were replaced" end
  if self.generation ~= shared.generation then
    -- What belonged to files that are closed went with them.
    self.txn = nil
    local code = lmdb.keywright_txn_begin(shared.env, nil, READ_ONLY, self.handle)
    if code ~= 0 then return message(code), code end
    self.txn, self.generation = self.handle[0], shared.generation
    for index, name in ipairs(DATABASES) do self.db[name] = shared.dbi[index] end
    return
  end
  local code = lmdb.keywright_txn_renew(self.txn)
  if code ~= 0 then return message(code), code end
end

--- Map the files as large as they are by now: nobody of this process may be reading meanwhile.
function Environment:remap()
  local shared = self.shared
  C.keywright_rwlock_wrlock(shared.lock)
  if shared.env ~= nil then lmdb.keywright_env_set_mapsize(shared.env, 0) end
  C.keywright_rwlock_unlock(shared.lock)
end

--- Call `read(environment, ...)` in a read transaction and return what it does; nil and the reason where there is none.
function Environment:with(now, read, a, b, c)
  local is_ready, problem = self:ready(now)
  if not is_ready then return nil, problem end
  local shared = self.shared
  for _ = 1, 2 do
    C.keywright_rwlock_rdlock(shared.lock)
    local code
    problem, code = self:begin()
    if not problem then
      local is_done, first, second = pcall(read, self, a, b, c)
      lmdb.keywright_txn_reset(self.txn)
      C.keywright_rwlock_unlock(shared.lock)
      if is_done then return first, second end
      return nil, first
    end
    C.keywright_rwlock_unlock(shared.lock)
    if code ~= MAP_RESIZED then return nil, problem end
    self:remap()
  end
  return nil, problem
end

--- The transaction's number: the same one stands for the same records.
function Environment:txn_id()
  return tonumber(lmdb.keywright_txn_id(self.txn))
end

--- Bytes and their count under a name of a database; nil where there are none. Raises for all else.
function Environment:get(database, name, length)
  local key, value = self.key, self.value
  key.size, key.data = length, ffi.cast("void *", name)
  local code = lmdb.keywright_get(self.txn, self.db[database], key, value)
  if code == 0 then return ffi.cast("const unsigned char *", value.data), tonumber(value.size) end
  if code ~= NOT_FOUND then error(message(code), 0) end
end

return M
