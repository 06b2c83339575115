#include "comm/progress_board.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"

namespace angel_ptm {
namespace {

template <size_t N>
void CopyText(std::array<char, N>* to, std::string_view from) {
  const size_t n = std::min(from.size(), N - 1);
  std::memcpy(to->data(), from.data(), n);
  (*to)[n] = 0;
}

// Of the caller; 0 if unknown.
int64_t PidNamespace() {
  struct stat info;
  return stat("/proc/self/ns/pid", &info) == 0 ? static_cast<int64_t>(info.st_ino) : 0;
}

}  // namespace

std::optional<int64_t> ProcessStartTicks(int64_t process_id) {
  const auto none = [](int error) {
    return error == ENOENT || error == ESRCH ? std::optional<int64_t>(-1) : std::nullopt;
  };
  std::array<char, 64> path;
  std::snprintf(path.data(), path.size(), "/proc/%lld/stat", static_cast<long long>(process_id));
  const int file = open(path.data(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return none(errno);
  std::array<char, 1024> text = {};
  const ssize_t n = read(file, text.data(), text.size() - 1);
  const int error = errno;
  close(file);
  if (n <= 0) return none(n < 0 ? error : 0);
  // "pid (name) state ...": the name may hold anything, so count fields from its last parenthesis; the state is
  // field 3.
  const char* field = std::strrchr(text.data(), ')');
  if (field == nullptr || field[1] != ' ') return std::nullopt;
  if (field[2] == 'Z' || field[2] == 'X') return -1;
  for (int number = 2; number < 22; ++number) {
    field = std::strchr(field + 1, ' ');
    if (field == nullptr) return std::nullopt;
  }
  return std::strtoll(field + 1, nullptr, 10);
}

std::string RankProgress::Where() const {
  const std::string text(activity.data());
  if (step < 0) return text.empty() ? "start-up" : text;
  return absl::StrCat("step ", step, text.empty() ? "" : " in ", text);
}

ProgressBoard::ProgressBoard(int size)
    : writing_(std::make_unique<std::mutex[]>(static_cast<size_t>(size))),
      process_id_(getpid()),
      process_start_ticks_(std::max<int64_t>(0, ProcessStartTicks(getpid()).value_or(0))),
      pid_namespace_(PidNamespace()) {
  gethostname(host_.data(), host_.size() - 1);
}

std::shared_ptr<ProgressBoard> ProgressBoard::InProcess(int size) {
  std::shared_ptr<ProgressBoard> board(new ProgressBoard(size));
  board->in_process_ = std::make_unique<Record[]>(static_cast<size_t>(size));
  board->records_ = {board->in_process_.get(), static_cast<size_t>(size)};
  return board;
}

absl::StatusOr<std::shared_ptr<ProgressBoard>> ProgressBoard::Open(const std::string& path, int size) {
  std::shared_ptr<ProgressBoard> board(new ProgressBoard(size));
  ASSIGN_OR_RETURN(board->shared_, SharedMemory::Open(path, static_cast<int64_t>(sizeof(Record)) * size));
  // Zeroed bytes are valid empty records.
  board->records_ = {static_cast<Record*>(board->shared_->data()), static_cast<size_t>(size)};
  return board;
}

void ProgressBoard::Unlink() {
  if (shared_ != nullptr) shared_->Unlink();
}

void ProgressBoard::Write(int rank, RankProgress::State state, int64_t step, std::string_view activity) {
  RankProgress progress;
  progress.state = state;
  progress.process_id = process_id_;
  progress.process_start_ticks = process_start_ticks_;
  progress.pid_namespace = pid_namespace_;
  progress.step = step;
  progress.changed_ns = std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  progress.host = host_;
  CopyText(&progress.activity, activity);
  records_[rank].Write(progress);
}

void ProgressBoard::Publish(int rank, int64_t step, std::string_view activity) {
  const std::lock_guard lock(writing_[rank]);
  Write(rank, RankProgress::kRunning, step, activity);
}

void ProgressBoard::Finish(int rank) {
  const std::lock_guard lock(writing_[rank]);
  Write(rank, RankProgress::kFinished, -1, "");
}

void ProgressBoard::Fail(int rank, std::string_view reason) {
  const std::lock_guard lock(writing_[rank]);
  RankProgress last;
  Write(rank, RankProgress::kFailed, records_[rank].Read(&last) ? last.step : -1, reason);
}

bool ProgressBoard::Died(const RankProgress& progress) const {
  // Containers may share /dev/shm and not their processes.
  if (progress.pid_namespace != pid_namespace_ || progress.process_start_ticks == 0) return false;
  const std::optional<int64_t> ticks = ProcessStartTicks(progress.process_id);
  return ticks && *ticks != progress.process_start_ticks;
}

bool ProgressBoard::Read(int rank, RankProgress* progress) const {
  return records_[rank].Read(progress) && progress->state != RankProgress::kNotStarted;
}

}  // namespace angel_ptm
