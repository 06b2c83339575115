// A limit on the size of files, for tests: it simulates a full disk.
#ifndef ANGEL_PTM_TESTS_SUPPORT_FILE_SIZE_LIMIT_H_
#define ANGEL_PTM_TESTS_SUPPORT_FILE_SIZE_LIMIT_H_

#include <sys/resource.h>

#include <csignal>
#include <cstddef>

namespace angel_ptm {

// While an object exists, this process cannot write beyond byte `bytes` of any file.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(size_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit = {bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_;
  void (*const handler_)(int);
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_SUPPORT_FILE_SIZE_LIMIT_H_
