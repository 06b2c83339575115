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

// OpenBLAS's own functions, which it exports but does not declare; absent if a build hides them.
extern "C" {
__attribute__((weak)) void* blas_memory_alloc(int unused);
__attribute__((weak)) void blas_memory_free(void* memory);
}

namespace angel_ptm {
namespace {

// Opens each descriptor for the opposite of its purpose, so that using it fails.
void TakeStandardDescriptors() {
  for (int descriptor = 0; descriptor <= 2; ++descriptor) {
    if (fcntl(descriptor, F_GETFD) != -1 || errno != EBADF) continue;
    // open() takes the lowest free number, which is this one, since those below are open.
    if (open("/dev/null", descriptor == 0 ? O_WRONLY : O_RDONLY) == -1) _exit(1);
  }
}

// The text of a limit, at most 31 bytes: "unlimited", or the number divided by `unit`. Does not allocate.
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

// Prints a single sentence for the whole process, however many threads fail at the same time. Does not allocate.
[[noreturn]] void EndWith(const char* sentence) {
  static std::atomic_flag said = ATOMIC_FLAG_INIT;
  if (said.test_and_set()) {
    for (;;) pause();
  }
  char line[512];
  const int length = std::snprintf(line, sizeof(line), "angel-ptm: %s\n", sentence);
  // Nothing can be done if standard error cannot be written.
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

// Called for an uncaught exception. Our code does not throw, so it comes from the C++ run time.
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

// OpenBLAS allocates this much for every thread that multiplies, and retries forever if a limit forbids it. When it is
// loaded, it does so for the threads of all cores.
constexpr size_t kBlasBytesPerThread = size_t{128} << 20;

bool IsLimited(int resource) {
  rlimit limit = {};
  return getrlimit(resource, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
}
bool MappingsAreLimited() { return IsLimited(RLIMIT_AS) || IsLimited(RLIMIT_DATA); }

// Whether the limits leave that much memory for matrix products on `threads` threads. The mapping is writable, because
// only such mappings count as data.
bool CanMultiply(int threads) {
  const size_t bytes = kBlasBytesPerThread * static_cast<size_t>(threads);
  void* const space = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (space != MAP_FAILED) munmap(space, bytes);
  return space != MAP_FAILED;
}

// Makes OpenBLAS allocate the memory for `threads` threads now, while it is available. OpenBLAS keeps what it has
// allocated, so later mappings cannot take it away. Returns false if there is not enough.
bool TakeBlasMemory(int threads) {
  if (blas_memory_alloc == nullptr || blas_memory_free == nullptr) return CanMultiply(threads);
  std::vector<void*> taken;
  while (static_cast<int>(taken.size()) < threads && CanMultiply(1)) taken.push_back(blas_memory_alloc(0));
  for (void* memory : taken) blas_memory_free(memory);
  return static_cast<int>(taken.size()) == threads;
}

constexpr char kBlasSentence[] =
    "the limits of %s KiB of address space (ulimit -v) and %s KiB of data (ulimit -d) are too low: matrix products of "
    "%d threads take %zu KiB";
void PrintBlasSentence(char (&sentence)[320], int threads) {
  std::snprintf(sentence, sizeof(sentence), kBlasSentence, LimitText(RLIMIT_AS, 1024).text,
                LimitText(RLIMIT_DATA, 1024).text, threads, kBlasBytesPerThread / 1024 * static_cast<size_t>(threads));
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
constexpr int kBlasCoresMax = 128;  // in Debian's build; a build for more does not allocate less

// Called before the libraries initialise, so it uses only the C library.
void CheckBlasMemory() {
  if (!MappingsAreLimited()) return;
  cpu_set_t usable;
  const int cores = sched_getaffinity(0, sizeof(usable), &usable) == 0 ? CPU_COUNT(&usable) : 1;
  const int threads = cores < kBlasCoresMax ? cores : kBlasCoresMax;
  if (CanMultiply(threads)) return;
  char sentence[320];
  PrintBlasSentence(sentence, threads);
  EndWith(sentence);
}
__attribute__((section(".preinit_array"), used)) void (*const check_blas_memory)() = CheckBlasMemory;
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
  const bool can_multiply = error != 0 || !MappingsAreLimited() || TakeBlasMemory(kernel_threads);
  all_started.count_down();
  for (const pthread_t thread : threads) pthread_join(thread, nullptr);
  if (error == 0 && can_multiply) return absl::OkStatus();
  if (error == 0) {
    char sentence[320];
    PrintBlasSentence(sentence, kernel_threads);
    return absl::ResourceExhaustedError(sentence);
  }
  char sentence[400];
  std::snprintf(sentence, sizeof(sentence), kThreadSentence, count, std::strerror(error),
                LimitText(RLIMIT_NPROC, 1).text, LimitText(RLIMIT_AS, 1024).text);
  return absl::ResourceExhaustedError(absl::StrCat(sentence, "; ", threads.size(), " could be started"));
}

absl::Status CloseStandardOutput() {
  const bool failed_before = std::ferror(stdout) != 0;
  // The reason of writes that failed earlier was not kept, but for a pipe it can be asked for.
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
