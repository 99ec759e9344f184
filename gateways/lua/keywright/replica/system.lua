--- Owns what is asked of the operating system, of liblmdb, zlib and libcrypto: declared once, by LuaJIT's FFI.
--
-- Every name here begins with keywright_: other libraries in the same Lua machine declare the same functions, perhaps
-- in other words, and whoever comes second would have theirs.

local ffi = require "ffi"

ffi.cdef [[
typedef struct keywright_env keywright_env;
typedef struct keywright_txn keywright_txn;
typedef struct { size_t size; void *data; } keywright_val;
typedef struct { unsigned int page_bytes, depth; size_t branch, leaf, overflow, entries; } keywright_lmdb_stat;
typedef struct { void *address; size_t map_bytes, last_page, last_txn; unsigned int max_readers, readers; } keywright_lmdb_info;
int keywright_env_create(keywright_env **env) __asm__("mdb_env_create");
int keywright_env_set_maxdbs(keywright_env *env, unsigned int count) __asm__("mdb_env_set_maxdbs");
int keywright_env_set_mapsize(keywright_env *env, size_t bytes) __asm__("mdb_env_set_mapsize");
int keywright_env_set_maxreaders(keywright_env *env, unsigned int count) __asm__("mdb_env_set_maxreaders");
int keywright_env_open(keywright_env *env, const char *path, unsigned int flags, unsigned int mode) __asm__("mdb_env_open");
void keywright_env_close(keywright_env *env) __asm__("mdb_env_close");
int keywright_env_stat(keywright_env *env, keywright_lmdb_stat *stat) __asm__("mdb_env_stat");
int keywright_env_info(keywright_env *env, keywright_lmdb_info *info) __asm__("mdb_env_info");
int keywright_txn_begin(keywright_env *env, keywright_txn *parent, unsigned int flags, keywright_txn **txn) __asm__("mdb_txn_begin");
int keywright_txn_commit(keywright_txn *txn) __asm__("mdb_txn_commit");
void keywright_txn_abort(keywright_txn *txn) __asm__("mdb_txn_abort");
void keywright_txn_reset(keywright_txn *txn) __asm__("mdb_txn_reset");
int keywright_txn_renew(keywright_txn *txn) __asm__("mdb_txn_renew");
size_t keywright_txn_id(keywright_txn *txn) __asm__("mdb_txn_id");
int keywright_dbi_open(keywright_txn *txn, const char *name, unsigned int flags, unsigned int *dbi) __asm__("mdb_dbi_open");
int keywright_get(keywright_txn *txn, unsigned int dbi, keywright_val *key, keywright_val *data) __asm__("mdb_get");
char *keywright_strerror(int error) __asm__("mdb_strerror");

unsigned long keywright_crc32(unsigned long crc, const unsigned char *bytes, unsigned int count) __asm__("crc32");

/* SHA256_CTX is 112 bytes in OpenSSL 1.1 and 3. */
typedef struct { unsigned char bytes[128]; } keywright_sha256;
int keywright_sha256_init(keywright_sha256 *state) __asm__("SHA256_Init");
int keywright_sha256_update(keywright_sha256 *state, const void *bytes, size_t count) __asm__("SHA256_Update");
int keywright_sha256_final(unsigned char *digest, keywright_sha256 *state) __asm__("SHA256_Final");

typedef struct { int64_t seconds; uint32_t nanoseconds; int32_t rest; } keywright_moment;
typedef struct {
  uint32_t mask, block_bytes; uint64_t attributes; uint32_t links, uid, gid; uint16_t mode, gap;
  uint64_t inode, bytes, blocks, attributes_mask; keywright_moment read, born, changed, written;
  uint32_t special_major, special_minor, device_major, device_minor; uint64_t spare[14];
} keywright_stat;
int keywright_statx(int directory, const char *path, int flags, unsigned int mask, keywright_stat *found) __asm__("statx");
int keywright_open(const char *path, int flags, ...) __asm__("open");
int keywright_close(int file) __asm__("close");
int64_t keywright_pread(int file, void *bytes, size_t count, int64_t offset) __asm__("pread");
int keywright_flock(int file, int operation) __asm__("flock");
int keywright_getpid(void) __asm__("getpid");
int keywright_memfd_create(const char *name, unsigned int flags) __asm__("memfd_create");
int keywright_ftruncate(int file, int64_t length) __asm__("ftruncate");
void *keywright_mmap(void *address, size_t length, int protection, int flags, int file, int64_t offset) __asm__("mmap");
int64_t keywright_readlink(const char *path, char *target, size_t count) __asm__("readlink");
void *keywright_opendir(const char *path) __asm__("opendir");
typedef struct { uint64_t inode; int64_t offset; uint16_t length; uint8_t kind; char name[256]; } keywright_entry;
keywright_entry *keywright_readdir(void *directory) __asm__("readdir");
int keywright_closedir(void *directory) __asm__("closedir");
typedef struct { int64_t seconds, nanoseconds; } keywright_time;
int keywright_clock_gettime(int clock, keywright_time *time) __asm__("clock_gettime");
int keywright_inet_pton(int family, const char *text, void *address) __asm__("inet_pton");
int keywright_rwlock_init(void *lock, const void *attributes) __asm__("pthread_rwlock_init");
int keywright_rwlock_rdlock(void *lock) __asm__("pthread_rwlock_rdlock");
int keywright_rwlock_wrlock(void *lock) __asm__("pthread_rwlock_wrlock");
int keywright_rwlock_unlock(void *lock) __asm__("pthread_rwlock_unlock");
]]

local C = ffi.C

local function load(...)
  local failure
  for _, name in ipairs { ... } do
    local is_there, library = pcall(ffi.load, name)
    if is_there then return library end
    failure = library
  end
  error("keywright needs " .. (...) .. ": " .. tostring(failure), 0)
end

local M = {
  C = C,
  lmdb = load("liblmdb.so.0", "liblmdb.so"),
  zlib = load("libz.so.1", "libz.so"),
  crypto = load("libcrypto.so.3", "libcrypto.so.1.1"),
}

M.RDONLY, M.CLOEXEC, M.DIRECTORY = 0, 0x80000, 0x10000
M.BOOTTIME, M.REALTIME = 7, 0
if ffi.arch == "arm64" then M.DIRECTORY = 0x4000 end

local time = ffi.new "keywright_time"
local found = ffi.new "keywright_stat"
local AT_CWD, AT_EMPTY_PATH, WANTED = -100, 0x1000, 0x7ff

--- Milliseconds of a clock, with their fractions.
function M.millis(clock)
  C.keywright_clock_gettime(clock, time)
  return tonumber(time.seconds) * 1000 + tonumber(time.nanoseconds) / 1e6
end

--- What is at a path, good until the next call; nil when there is nothing, or it can't be seen.
function M.stat(path)
  if C.keywright_statx(AT_CWD, path, 0, WANTED, found) == 0 then return found end
end

function M.stat_of(file)
  if C.keywright_statx(file, "", AT_EMPTY_PATH, WANTED, found) == 0 then return found end
end

function M.open(path, flags)
  return C.keywright_open(path, bit.bor(M.CLOEXEC, flags or M.RDONLY))
end

return M
