#include "angel_ptm/train/metrics_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <map>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/file_stream.h"
#include "angel_ptm/base/file_sync.h"
#include "angel_ptm/base/json.h"
#include "nlohmann/json.hpp"

namespace angel_ptm {
namespace {

// How many bytes of the newest lines stay in memory.
constexpr size_t kKnownBytesMax = size_t{2} << 20;

// The step of a metrics line, or -1 if the line is incomplete (the last one of a killed run).
int64_t StepOf(std::string_view line) {
  const auto object = ParseJson(line);
  if (!object.is_object() || !object.contains("step") || !object["step"].is_number_integer()) return -1;
  return object["step"].get<int64_t>();
}

// Gives the file with an earlier run's lines another name. Returns a sentence that says so, or an empty text if there
// are none.
absl::StatusOr<std::string> SetAside(const std::string& path) {
  ASSIGN_OR_RETURN(const bool exists, PathExists(path));
  if (!exists) return std::string();
  ASSIGN_OR_RETURN(const FileReader file, FileReader::Open(path));
  if (file.size() == 0) return std::string();
  int64_t count = 0;
  LineReader lines(file);
  for (;; count += lines.is_whole()) {
    ASSIGN_OR_RETURN(const bool some, lines.Next());
    if (!some) break;
  }
  for (int number = 1;; ++number) {
    const std::string aside = absl::StrCat(path, ".", number);
    ASSIGN_OR_RETURN(const bool taken, PathExists(aside));
    if (taken) continue;
    RETURN_IF_ERROR(RenamePath(path, aside));
    return absl::StrCat("note: ", path, " had ", count, " lines of an earlier run, which are kept as ", aside);
  }
}

// A set of steps that stores each run of consecutive steps as one entry.
class SeenSteps {
 public:
  void Add(int64_t step) {
    auto next = ends_.upper_bound(step);
    auto own = next == ends_.begin() ? ends_.end() : std::prev(next);
    if (own == ends_.end() || own->second < step) own = ends_.emplace_hint(next, step, step);
    own->second = std::max(own->second, step + 1);
    if (next == ends_.end() || next->first > own->second) return;
    own->second = next->second;
    ends_.erase(next);
  }
  // Returns the steps below `end` that are missing, such as "3 to 5, 7".
  std::string Missing(int64_t end) const {
    std::string text;
    int64_t next = 0;
    const auto gap = [&](int64_t until) {
      if (until <= next) return;
      absl::StrAppend(&text, text.empty() ? "" : ", ", next, until > next + 1 ? absl::StrCat(" to ", until - 1) : "");
    };
    for (const auto& [begin, behind] : ends_) {
      gap(begin);
      next = behind;
    }
    gap(end);
    return text;
  }

 private:
  std::map<int64_t, int64_t> ends_;  // the step after a run of consecutive steps, by its first step
};

bool IsBefore(std::string_view line, int64_t first_step, int64_t* step) {
  *step = StepOf(line);
  return *step >= 0 && *step < first_step;
}

absl::Status CutFile(const std::string& path, int64_t bytes) {
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return FileError("open", path, errno);
  const char* action = ftruncate(fd, bytes) != 0 ? "cut" : SyncFile(fd) != 0 ? "sync" : nullptr;
  const int why = errno;
  close(fd);
  return action == nullptr ? absl::OkStatus() : FileError(action, path, why);
}

absl::Status RewriteBefore(const std::string& path, const FileReader& file, int64_t first_step) {
  ASSIGN_OR_RETURN(AtomicFile kept, AtomicFile::Create(path));
  LineReader lines(file);
  std::string block;
  for (;;) {
    ASSIGN_OR_RETURN(const bool some, lines.Next());
    int64_t step = 0;
    if (some && IsBefore(lines.line(), first_step, &step)) {
      block += lines.line();
      block += '\n';
    }
    if (some && static_cast<int64_t>(block.size()) < kStreamBlockBytes) continue;
    RETURN_IF_ERROR(kept.Append(block));
    block.clear();
    if (!some) return kept.Commit();
  }
}

// Leaves in <path>, durably, only the complete lines of earlier steps, and returns the steps that have a line. Failing
// to read is an error, not an empty history. Lines usually ascend, so only the end of the file goes and no copy is
// made.
absl::StatusOr<SeenSteps> KeepBefore(const std::string& path, int64_t first_step) {
  SeenSteps steps;
  ASSIGN_OR_RETURN(const bool exists, PathExists(path));
  if (!exists) {
    RETURN_IF_ERROR(WriteFile(path, ""));
    return steps;
  }
  ASSIGN_OR_RETURN(const FileReader file, FileReader::Open(path));
  int64_t kept_end = 0, line_begin = 0;
  bool only_the_end_goes = true;
  for (LineReader lines(file);; line_begin = lines.end()) {
    ASSIGN_OR_RETURN(const bool some, lines.Next());
    if (!some) break;
    int64_t step = 0;
    if (!IsBefore(lines.line(), first_step, &step)) continue;
    steps.Add(step);
    only_the_end_goes &= line_begin == kept_end && lines.is_whole();
    kept_end = lines.end();
  }
  if (!only_the_end_goes) {
    RETURN_IF_ERROR(RewriteBefore(path, file, first_step));
  } else if (kept_end < file.size()) {
    RETURN_IF_ERROR(CutFile(path, kept_end));
  }
  return steps;
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

absl::StatusOr<MetricsFile> MetricsFile::Open(const std::string& directory, int64_t first_step, const std::string& name,
                                              Lines lines) {
  RETURN_IF_ERROR(MakeDirectories(directory));
  const std::string path = absl::StrCat(directory, "/", name);
  std::string aside;
  if (first_step == 0) {
    ASSIGN_OR_RETURN(aside, SetAside(path));
  }
  ASSIGN_OR_RETURN(const SeenSteps steps, KeepBefore(path, first_step));
  int64_t bytes = 0;
  ASSIGN_OR_RETURN(const int fd, OpenAtEnd(path, &bytes));
  MetricsFile file(fd, bytes, path);
  if (!aside.empty()) {
    file.note_ = std::move(aside);
  } else if (lines == Lines::kOfEveryStep) {
    const std::string missing = steps.Missing(first_step);
    if (!missing.empty()) file.note_ = absl::StrCat("warning: ", path, " has a gap: no lines for steps ", missing);
  }
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
      lost_lines_(other.lost_lines_),
      note_(std::move(other.note_)) {}

MetricsFile::~MetricsFile() {
  if (fd_ >= 0) close(fd_);
}

absl::Status MetricsFile::AppendLine(const std::string& line) {
  absl::StrAppend(&unwritten_, line, "\n");
  const absl::Status written = WriteKept();
  if (unwritten_.size() <= kUnwrittenBytesMax) return written;
  unwritten_.erase(0, unwritten_.find('\n', unwritten_.size() - kUnwrittenBytesMax / 2) + 1);
  if (!std::exchange(lost_lines_, true)) {
    note_ =
        absl::StrCat("warning: ", path_, " could not be written for too long: older lines that waited for it are lost");
  }
  return written;
}

absl::Status MetricsFile::Flush() {
  RETURN_IF_ERROR(WriteKept());
  while (fdatasync(fd_) != 0) {
    if (errno != EINTR) return FileError("sync", path_, errno);
  }
  return absl::OkStatus();
}

// Makes sure that the file under the name is the open one and has all lines that were written.
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

absl::Status MetricsFile::CopyKnown(AtomicFile& to, bool* complete) const {
  // A file that has lost its name can still be read through its descriptor.
  std::string block;
  int64_t done = 0;
  while (done < known_begin_) {
    const size_t partial = block.size();
    const int64_t wanted = std::min(kStreamBlockBytes, known_begin_ - done);
    block.resize(partial + static_cast<size_t>(wanted));
    const ssize_t n = pread(fd_, block.data() + partial, static_cast<size_t>(wanted), static_cast<off_t>(done));
    block.resize(partial + static_cast<size_t>(std::max<ssize_t>(n, 0)));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    done += n;
    const size_t whole = block.rfind('\n') + 1;  // npos + 1 is 0
    RETURN_IF_ERROR(to.Append(std::string_view(block).substr(0, whole)));
    block.erase(0, whole);
  }
  *complete = done == known_begin_;
  return to.Append(known_);
}

absl::Status MetricsFile::WriteAgain(const char* what_happened) {
  lost_its_name_ = true;
  bool complete = false;
  {
    ASSIGN_OR_RETURN(AtomicFile again, AtomicFile::Create(path_));
    RETURN_IF_ERROR(CopyKnown(again, &complete));
    RETURN_IF_ERROR(again.Commit());
  }
  int64_t bytes = 0;
  ASSIGN_OR_RETURN(const int fd, OpenAtEnd(path_, &bytes));
  close(fd_);
  fd_ = fd;
  bytes_ = bytes;
  known_begin_ = bytes - static_cast<int64_t>(known_.size());
  lost_its_name_ = false;
  note_ = absl::StrCat("warning: ", path_, " ", what_happened, " while the run was writing it: written again",
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
  size_t done = 0;
  int why = 0;
  while (done < unwritten_.size() && why == 0) {
    const ssize_t n =
        pwrite(fd_, unwritten_.data() + done, unwritten_.size() - done, bytes_ + static_cast<int64_t>(done));
    if (n >= 0) done += static_cast<size_t>(n);
    if (n < 0 && errno != EINTR) why = errno;
  }
  // Keep the complete lines that were written.
  const size_t whole = done == 0 ? 0 : unwritten_.rfind('\n', done - 1) + 1;  // npos + 1 is 0
  bytes_ += static_cast<int64_t>(whole);
  Remember(unwritten_.substr(0, whole));
  unwritten_.erase(0, whole);
  if (why == 0) return absl::OkStatus();
  // Half a line would spoil the file for its readers. If the cut fails, too, the next line overwrites the rest.
  if (ftruncate(fd_, bytes_) != 0) errno = 0;
  return FileError("write", path_, why);
}

}  // namespace angel_ptm
