#include "angel_ptm/train/metrics_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/json.h"
#include "nlohmann/json.hpp"

namespace angel_ptm {
namespace {

// How much of the newest lines stays in memory.
constexpr size_t kKnownBytesMax = size_t{2} << 20;

// The step of a metrics line, or -1 if the line is not whole (a killed run's last one).
int64_t StepOf(const std::string& line) {
  const auto object = ParseJson(line);
  if (!object.is_object() || !object.contains("step") || !object["step"].is_number_integer()) return -1;
  return object["step"].get<int64_t>();
}

// An earlier run's lines get a name of their own; returns a sentence that says so, or nothing if there are none.
absl::StatusOr<std::string> SetAside(const std::string& path) {
  ASSIGN_OR_RETURN(const bool exists, PathExists(path));
  if (!exists) return std::string();
  ASSIGN_OR_RETURN(const std::string content, ReadFile(path, std::numeric_limits<int64_t>::max()));
  if (content.empty()) return std::string();
  for (int number = 1;; ++number) {
    const std::string aside = absl::StrCat(path, ".", number);
    ASSIGN_OR_RETURN(const bool taken, PathExists(aside));
    if (taken) continue;
    RETURN_IF_ERROR(RenamePath(path, aside));
    return absl::StrCat("note: ", path, " had ", std::count(content.begin(), content.end(), '\n'),
                        " lines of an earlier run, which are kept as ", aside);
  }
}

// "3 to 5, 7": the steps below `end` that are not in `steps`, which are sorted.
std::string Missing(const std::vector<int64_t>& steps, int64_t end) {
  std::string text;
  int64_t next = 0;
  const auto gap = [&](int64_t until) {
    if (until > next) {
      absl::StrAppend(&text, text.empty() ? "" : ", ", next, until > next + 1 ? absl::StrCat(" to ", until - 1) : "");
    }
    next = std::max(next, until + 1);
  };
  for (int64_t step : steps) gap(step);
  gap(end);
  return text;
}

// Leaves <path> with the whole lines of earlier steps, on disk. What cannot be read is an error, not an empty history.
// Returns a sentence about steps that have no line, or nothing.
absl::StatusOr<std::string> KeepBefore(const std::string& path, int64_t first_step) {
  ASSIGN_OR_RETURN(const bool exists, PathExists(path));
  std::string content, kept, line;
  if (exists) {
    ASSIGN_OR_RETURN(content, ReadFile(path, std::numeric_limits<int64_t>::max()));
  }
  std::istringstream lines(content);
  std::vector<int64_t> steps;
  while (std::getline(lines, line)) {
    const int64_t step = StepOf(line);
    if (step < 0 || step >= first_step) continue;
    absl::StrAppend(&kept, line, "\n");
    steps.push_back(step);
  }
  if (!exists || kept != content) RETURN_IF_ERROR(WriteFile(path, kept));
  std::sort(steps.begin(), steps.end());
  const std::string missing = Missing(steps, first_step);
  if (missing.empty()) return std::string();
  return absl::StrCat("warning: ", path, " has a gap: no line of steps ", missing);
}

absl::StatusOr<int> OpenAtEnd(const std::string& path, int64_t* bytes) {
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return FileError("open", path, errno);
  *bytes = lseek(fd, 0, SEEK_END);
  if (*bytes >= 0) return fd;
  const int why = errno;
  close(fd);
  return FileError("find the end of", path, why);
}

}  // namespace

absl::StatusOr<MetricsFile> MetricsFile::Open(const std::string& directory, int64_t first_step,
                                              const std::string& name) {
  RETURN_IF_ERROR(MakeDirectories(directory));
  const std::string path = absl::StrCat(directory, "/", name);
  std::string aside;
  if (first_step == 0) {
    ASSIGN_OR_RETURN(aside, SetAside(path));
  }
  ASSIGN_OR_RETURN(const std::string gap, KeepBefore(path, first_step));
  int64_t bytes = 0;
  ASSIGN_OR_RETURN(const int fd, OpenAtEnd(path, &bytes));
  MetricsFile file(fd, bytes, path);
  file.note_ = aside.empty() ? gap : aside;
  return file;
}

MetricsFile::MetricsFile(MetricsFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      bytes_(other.bytes_),
      known_(std::move(other.known_)),
      known_begin_(other.known_begin_),
      path_(std::move(other.path_)),
      unwritten_(std::move(other.unwritten_)),
      lost_its_name_(other.lost_its_name_),
      note_(std::move(other.note_)) {}

MetricsFile::~MetricsFile() {
  if (fd_ >= 0) close(fd_);
}

absl::Status MetricsFile::AppendLine(const std::string& line) {
  absl::StrAppend(&unwritten_, line, "\n");
  return WriteKept();
}

absl::Status MetricsFile::Flush() {
  RETURN_IF_ERROR(WriteKept());
  while (fdatasync(fd_) != 0) {
    if (errno != EINTR) return FileError("sync", path_, errno);
  }
  return absl::OkStatus();
}

// The file under the name is the one that is open and has the lines that were written.
absl::Status MetricsFile::KeepItsName() {
  struct stat ours = {}, there = {};
  if (stat(path_.c_str(), &there) != 0) {
    if (errno != ENOENT && errno != ENOTDIR && errno != ESTALE) return FileError("look at", path_, errno);
    return WriteAgain("was removed");
  }
  if (fstat(fd_, &ours) != 0 || ours.st_ino != there.st_ino || ours.st_dev != there.st_dev) {
    return WriteAgain("was replaced");
  }
  return ours.st_size < bytes_ ? WriteAgain("was cut") : absl::OkStatus();
}

std::string MetricsFile::WhatIsKnown(bool* complete) const {
  // A file that has lost its name can still be read.
  std::string content(static_cast<size_t>(known_begin_), '\0');
  size_t done = 0;
  while (done < content.size()) {
    const ssize_t n = pread(fd_, content.data() + done, content.size() - done, static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    done += static_cast<size_t>(n);
  }
  *complete = done == content.size();
  const size_t newline = content.rfind('\n', done == 0 ? 0 : done - 1);
  if (!*complete) content.resize(done == 0 || newline == std::string::npos ? 0 : newline + 1);
  return content + known_;
}

absl::Status MetricsFile::WriteAgain(const char* what_happened) {
  lost_its_name_ = true;
  bool complete = false;
  const std::string content = WhatIsKnown(&complete);
  RETURN_IF_ERROR(WriteFile(path_, content));
  int64_t bytes = 0;
  ASSIGN_OR_RETURN(const int fd, OpenAtEnd(path_, &bytes));
  close(fd_);
  fd_ = fd;
  bytes_ = bytes;
  known_begin_ = bytes - static_cast<int64_t>(known_.size());
  lost_its_name_ = false;
  note_ = absl::StrCat("warning: ", path_, " ", what_happened, " while the run writes it: written again",
                       complete ? ", all lines" : ", but older lines are lost");
  return absl::OkStatus();
}

void MetricsFile::Remember(const std::string& lines) {
  known_ += lines;
  if (known_.size() <= kKnownBytesMax) return;
  const size_t cut = known_.find('\n', known_.size() - kKnownBytesMax / 2) + 1;
  known_.erase(0, cut);
  known_begin_ += static_cast<int64_t>(cut);
}

absl::Status MetricsFile::WriteKept() {
  RETURN_IF_ERROR(KeepItsName());
  for (size_t done = 0; done < unwritten_.size();) {
    const ssize_t n =
        pwrite(fd_, unwritten_.data() + done, unwritten_.size() - done, bytes_ + static_cast<int64_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const int why = errno;
      // Half a line would spoil the file for its readers; if even this fails, the next line overwrites it.
      if (ftruncate(fd_, bytes_) != 0) errno = 0;
      return FileError("write", path_, why);
    }
    done += static_cast<size_t>(n);
  }
  bytes_ += static_cast<int64_t>(unwritten_.size());
  Remember(unwritten_);
  unwritten_.clear();
  return absl::OkStatus();
}

}  // namespace angel_ptm
