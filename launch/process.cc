#include "launch/process.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <latch>
#include <new>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file.h"

namespace angel_ptm {
namespace {

// The opposite of what each is for, so that its use fails.
void TakeStandardDescriptors() {
  for (int descriptor = 0; descriptor <= 2; ++descriptor) {
    if (fcntl(descriptor, F_GETFD) != -1 || errno != EBADF) continue;
    // The lowest free number, which is this one: those below are open.
    if (open("/dev/null", descriptor == 0 ? O_WRONLY : O_RDONLY) == -1) _exit(1);
  }
}

// The text of a limit, at most 31 bytes: "unlimited" or its number, divided by `unit`. Allocates nothing.
struct LimitText {
  char text[32];
  LimitText(int resource, rlim_t unit) {
    rlimit limit = {};
    if (getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
      std::snprintf(text, sizeof(text), "unlimited");
    } else {
      std::snprintf(text, sizeof(text), "%llu", static_cast<unsigned long long>(limit.rlim_cur / unit));
    }
  }
};

// One sentence for the whole process, however many threads fail at once. Allocates nothing.
[[noreturn]] void EndWith(const char* sentence) {
  static std::atomic_flag said = ATOMIC_FLAG_INIT;
  if (said.test_and_set()) {
    for (;;) pause();
  }
  char line[512];
  const int length = std::snprintf(line, sizeof(line), "angel-ptm: %s\n", sentence);
  // Nothing can be done about a standard error that cannot be written.
  if (write(STDERR_FILENO, line, static_cast<size_t>(length)) < 0) _exit(1);
  _exit(1);
}

constexpr char kThreadSentence[] =
    "cannot start %d more threads: %s; the limits are %s processes and threads of this user (ulimit -u), %s KiB of "
    "address space (ulimit -v) and the control group's pids.max";

void OutOfMemory() {
  char sentence[320];
  std::snprintf(sentence, sizeof(sentence),
                "the system gives this process no more memory; the limits are %s KiB of address space (ulimit -v), %s "
                "KiB of data (ulimit -d) and what the machine has free",
                LimitText(RLIMIT_AS, 1024).text, LimitText(RLIMIT_DATA, 1024).text);
  EndWith(sentence);
}

// Called for an exception that nobody catches; ours is code without exceptions, so it comes from the C++ run time.
void Terminate() {
  char sentence[400];
  try {
    if (std::current_exception() != nullptr) std::rethrow_exception(std::current_exception());
    std::snprintf(sentence, sizeof(sentence), "ended by the C++ run time without a reason");
  } catch (const std::bad_alloc&) {
    OutOfMemory();
  } catch (const std::system_error& error) {
    if (error.code() == std::errc::resource_unavailable_try_again) {
      std::snprintf(sentence, sizeof(sentence), kThreadSentence, 1, std::strerror(EAGAIN),
                    LimitText(RLIMIT_NPROC, 1).text, LimitText(RLIMIT_AS, 1024).text);
    } else {
      std::snprintf(sentence, sizeof(sentence), "the system refused: %.200s", error.what());
    }
  } catch (const std::exception& error) {
    std::snprintf(sentence, sizeof(sentence), "a library failed: %.200s", error.what());
  } catch (...) {
    std::snprintf(sentence, sizeof(sentence), "a library failed without a reason");
  }
  EndWith(sentence);
}

// OpenBLAS takes this much address space for every thread that multiplies, and tries without end where a limit forbids
// it. For those of all cores it does so when it is loaded.
constexpr size_t kBlasBytesPerThread = size_t{128} << 20;

bool AddressSpaceIsLimited() {
  rlimit limit = {};
  return getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
}

// Whether as much address space is left for the matrix products of so many threads.
bool CanMultiply(int threads) {
  const size_t bytes = kBlasBytesPerThread * static_cast<size_t>(threads);
  void* const space = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (space != MAP_FAILED) munmap(space, bytes);
  return space != MAP_FAILED;
}

constexpr char kAddressSpaceSentence[] =
    "the limit of %s KiB of address space (ulimit -v) is too low: matrix products of %d threads take %zu KiB";

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
constexpr int kBlasCoresMax = 128;  // of Debian's build; one for more takes no less

// Called before the libraries' own start, so it uses nothing but the C library.
void CheckAddressSpace() {
  if (!AddressSpaceIsLimited()) return;
  cpu_set_t usable;
  const int cores = sched_getaffinity(0, sizeof(usable), &usable) == 0 ? CPU_COUNT(&usable) : 1;
  const int threads = cores < kBlasCoresMax ? cores : kBlasCoresMax;
  if (CanMultiply(threads)) return;
  char sentence[320];
  std::snprintf(sentence, sizeof(sentence), kAddressSpaceSentence, LimitText(RLIMIT_AS, 1024).text, threads,
                kBlasBytesPerThread / 1024 * static_cast<size_t>(threads));
  EndWith(sentence);
}
__attribute__((section(".preinit_array"), used)) void (*const check_address_space)() = CheckAddressSpace;
#endif

void* WaitForAll(void* all_started) {
  static_cast<std::latch*>(all_started)->wait();
  return nullptr;
}

}  // namespace

void PrepareProcess() {
  TakeStandardDescriptors();
  struct sigaction ignore = {};
  ignore.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &ignore, nullptr);
  sigaction(SIGXFSZ, &ignore, nullptr);
  std::set_new_handler(OutOfMemory);
  std::set_terminate(Terminate);
}

absl::Status CheckThreads(int kernel_threads, int other_threads) {
  const int count = kernel_threads + other_threads;
  std::latch all_started(1);
  std::vector<pthread_t> threads;
  int error = 0;
  while (error == 0 && static_cast<int>(threads.size()) < count) {
    pthread_t thread;
    error = pthread_create(&thread, nullptr, WaitForAll, &all_started);
    if (error == 0) threads.push_back(thread);
  }
  const bool can_multiply = !AddressSpaceIsLimited() || CanMultiply(kernel_threads);
  all_started.count_down();
  for (const pthread_t thread : threads) pthread_join(thread, nullptr);
  if (error == 0 && can_multiply) return absl::OkStatus();
  char sentence[400];
  if (error == 0) {
    std::snprintf(sentence, sizeof(sentence), kAddressSpaceSentence, LimitText(RLIMIT_AS, 1024).text, kernel_threads,
                  kBlasBytesPerThread / 1024 * static_cast<size_t>(kernel_threads));
    return absl::ResourceExhaustedError(sentence);
  }
  std::snprintf(sentence, sizeof(sentence), kThreadSentence, count, std::strerror(error),
                LimitText(RLIMIT_NPROC, 1).text, LimitText(RLIMIT_AS, 1024).text);
  return absl::ResourceExhaustedError(absl::StrCat(sentence, "; ", threads.size(), " could be started"));
}

absl::Status CloseStandardOutput() {
  const bool failed_before = std::ferror(stdout) != 0;
  // Of writes that failed before nobody kept the reason; that of a pipe can be asked for.
  pollfd output = {.fd = STDOUT_FILENO, .events = POLLOUT, .revents = 0};
  const bool reader_left = failed_before && poll(&output, 1, 0) == 1 && (output.revents & POLLERR) != 0;
  errno = 0;
  const bool failed = std::fclose(stdout) != 0;
  if (reader_left || (failed && errno == EPIPE))
    return absl::UnavailableError("the reader of standard output has left");
  if (failed) return FileError("write", "standard output", errno);
  if (failed_before) return absl::DataLossError("not all of standard output could be written");
  return absl::OkStatus();
}

}  // namespace angel_ptm
