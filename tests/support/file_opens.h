// Counts how often the files of a folder are opened.
#ifndef ANGEL_PTM_TESTS_SUPPORT_FILE_OPENS_H_
#define ANGEL_PTM_TESTS_SUPPORT_FILE_OPENS_H_

#include <gtest/gtest.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <map>
#include <string>
#include <vector>

namespace angel_ptm {

class FileOpens {
 public:
  explicit FileOpens(const std::string& folder) : fd_(inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) {
    EXPECT_GE(inotify_add_watch(fd_, folder.c_str(), IN_OPEN), 0) << folder;
  }
  ~FileOpens() { close(fd_); }
  FileOpens(const FileOpens&) = delete;
  FileOpens& operator=(const FileOpens&) = delete;

  // The counts by file name since the last call.
  std::map<std::string, int> Take() {
    std::map<std::string, int> opens;
    std::vector<char> buffer(1 << 16);
    for (ssize_t n; (n = read(fd_, buffer.data(), buffer.size())) > 0;) {
      for (size_t at = 0; at < static_cast<size_t>(n);) {
        inotify_event event;
        std::memcpy(&event, buffer.data() + at, sizeof(event));
        EXPECT_EQ(event.mask & IN_Q_OVERFLOW, 0u);
        if (event.len > 0) ++opens[buffer.data() + at + sizeof(event)];
        at += sizeof(event) + event.len;
      }
    }
    return opens;
  }

 private:
  const int fd_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_SUPPORT_FILE_OPENS_H_
