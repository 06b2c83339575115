// Preloaded into angel-ptm, imitates a file system that is slow or frozen for a while: the first opening of a token
// file, the first fsync and the first removal each take five seconds. With SLOW_CALL "open", "fsync" or "unlinkat" at
// build time, only that call is slow.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <thread>

namespace {

void SleepOnce(std::atomic<bool>& slept, const char* call) {
#ifdef SLOW_CALL
  if (std::strcmp(call, SLOW_CALL) != 0) return;
#endif
  if (slept.exchange(true)) return;
  std::fprintf(stderr, "slow %s\n", call);
  std::this_thread::sleep_for(std::chrono::seconds(5));
}

template <typename Function>
Function* Original(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

std::atomic<bool> synced, removed, opened;

}  // namespace

extern "C" {

int fsync(int file) {
  SleepOnce(synced, "fsync");
  return Original<int(int)>("fsync")(file);
}

int unlinkat(int folder, const char* path, int flags) {
  SleepOnce(removed, "unlinkat");
  return Original<int(int, const char*, int)>("unlinkat")(folder, path, flags);
}

int open(const char* path, int flags, ...) {
  std::va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = va_arg(arguments, mode_t);
  va_end(arguments);
  if (std::strstr(path, ".tokens") != nullptr) SleepOnce(opened, "open");
  return Original<int(const char*, int, ...)>("open")(path, flags, mode);
}
}
