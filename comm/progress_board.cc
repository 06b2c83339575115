#include "comm/progress_board.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"

namespace angel_ptm {
namespace {

constexpr int64_t kLine = 64;

template <size_t N>
void CopyText(std::array<char, N>* to, std::string_view from) {
  const size_t n = std::min(from.size(), N - 1);
  std::copy_n(from.begin(), n, to->begin());  // an empty text may have null data
  (*to)[n] = 0;
}

// The caller's PID namespace; 0 if unknown.
int64_t PidNamespace() {
  struct stat info;
  return stat("/proc/self/ns/pid", &info) == 0 ? static_cast<int64_t>(info.st_ino) : 0;
}

}  // namespace

std::optional<ProcessState> StateOfProcess(int64_t process_id) {
  const auto none = [](int error) {
    return error == ENOENT || error == ESRCH ? std::optional<ProcessState>(ProcessState{}) : std::nullopt;
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
  // "pid (name) state ...": the name may hold anything, so count fields from its last parenthesis; the state is field
  // 3, the start time field 22.
  const char* field = std::strrchr(text.data(), ')');
  if (field == nullptr || field[1] != ' ') return std::nullopt;
  ProcessState process{.state = field[2]};
  if (process.state == 'Z' || process.state == 'X') return process;
  for (int number = 2; number < 22; ++number) {
    field = std::strchr(field + 1, ' ');
    if (field == nullptr) return std::nullopt;
  }
  process.start_ticks = std::strtoll(field + 1, nullptr, 10);
  return process;
}

std::string RankProgress::Where() const {
  const std::string text(activity.data());
  if (step < 0) return text.empty() ? "start-up" : text;
  return absl::StrCat("step ", step, text.empty() ? " between two passes" : absl::StrCat(" in ", text));
}

void ProgressBoard::FreeLines::operator()(std::byte* p) const { std::free(p); }

int64_t ProgressBoard::BytesFor(int size) {
  static_assert(sizeof(VerdictSlot) % kLine == 0 && sizeof(Row) % kLine == 0 && alignof(Row) == kLine);
  return static_cast<int64_t>(sizeof(VerdictSlot) + sizeof(Row) * static_cast<size_t>(size));
}

ProgressBoard::ProgressBoard(int size)
    : writing_(std::make_unique<std::mutex[]>(static_cast<size_t>(size))), process_id_(getpid()) {
  if (const std::optional<ProcessState> own = StateOfProcess(process_id_)) {
    process_start_ticks_ = std::max<int64_t>(0, own->start_ticks);
  }
  pid_namespace_ = PidNamespace();
  gethostname(host_.data(), host_.size() - 1);
}

// Zeroed bytes are a valid empty board.
void ProgressBoard::Lay(void* memory, int size) {
  verdict_ = static_cast<VerdictSlot*>(memory);
  Row* rows = reinterpret_cast<Row*>(static_cast<std::byte*>(memory) + sizeof(VerdictSlot));
  rows_ = {rows, static_cast<size_t>(size)};
}

std::shared_ptr<ProgressBoard> ProgressBoard::InProcess(int size) {
  std::shared_ptr<ProgressBoard> board(new ProgressBoard(size));
  const size_t bytes = static_cast<size_t>(BytesFor(size));
  board->in_process_.reset(static_cast<std::byte*>(std::aligned_alloc(kLine, bytes)));
  APTM_CHECK(board->in_process_ != nullptr, "no memory for a progress board");
  std::memset(board->in_process_.get(), 0, bytes);
  board->Lay(board->in_process_.get(), size);
  return board;
}

std::shared_ptr<ProgressBoard> ProgressBoard::In(std::unique_ptr<SharedMemory> memory, int size) {
  APTM_CHECK(memory->bytes() >= BytesFor(size), "a progress board in ", memory->bytes(), " bytes");
  std::shared_ptr<ProgressBoard> board(new ProgressBoard(size));
  board->shared_ = std::move(memory);
  board->Lay(board->shared_->data(), size);
  return board;
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
  const std::lock_guard lock(writing_[rank]);
  Row& row = rows_[rank];
  row.record.Write(progress);
  row.between_steps.store(activity.empty() || step < 0 ? 1 : 0, std::memory_order_relaxed);
  row.signs.fetch_add(1, std::memory_order_relaxed);
}

void ProgressBoard::Publish(int rank, int64_t step, std::string_view activity) {
  Write(rank, RankProgress::kRunning, step, activity);
}

void ProgressBoard::Beat(int rank) {
  rows_[rank].beats.fetch_add(1, std::memory_order_relaxed);
  if (rows_[rank].between_steps.load(std::memory_order_relaxed) != 0) Sign(rank);
}

void ProgressBoard::Finish(int rank) { Write(rank, RankProgress::kFinished, -1, ""); }

void ProgressBoard::Mirror(int rank, RankProgress progress, uint64_t signs, uint64_t beats) {
  Row& row = rows_[rank];
  RankProgress known;
  const bool is_known = Read(rank, &known);
  if (is_known && known.remote == 0) return;
  row.heard.fetch_add(1, std::memory_order_relaxed);
  // Datagrams may arrive out of order.
  if (signs < row.signs.load(std::memory_order_relaxed) || beats < row.beats.load(std::memory_order_relaxed)) return;
  progress.remote = 1;
  // The other machine's process numbers mean nothing here.
  progress.process_start_ticks = progress.pid_namespace = 0;
  progress.changed_ns = is_known && known.step == progress.step && known.activity == progress.activity
                            ? known.changed_ns
                            : std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  const std::lock_guard lock(writing_[rank]);
  row.record.Write(progress);
  row.signs.store(signs, std::memory_order_relaxed);
  row.beats.store(beats, std::memory_order_relaxed);
}

std::optional<ProcessState> ProgressBoard::StateOf(const RankProgress& progress) const {
  // Containers may share memory without seeing each other's processes.
  if (progress.remote != 0 || progress.pid_namespace != pid_namespace_ || progress.process_start_ticks == 0)
    return std::nullopt;
  return StateOfProcess(progress.process_id);
}

bool ProgressBoard::Died(const RankProgress& progress) const {
  const std::optional<ProcessState> process = StateOf(progress);
  return process && process->start_ticks != progress.process_start_ticks;
}

bool ProgressBoard::Read(int rank, RankProgress* progress) const {
  return rows_[rank].record.Read(progress) && progress->state != RankProgress::kNotStarted;
}

bool ProgressBoard::Accuse(std::string_view sentence) {
  uint32_t expected = VerdictSlot::kNone;
  if (!verdict_->state.compare_exchange_strong(expected, VerdictSlot::kBeingWritten)) return false;
  CopyText(&verdict_->sentence, sentence);
  verdict_->state.store(VerdictSlot::kPublished);
  return true;
}

std::string ProgressBoard::Verdict() const {
  return verdict_->state.load() == VerdictSlot::kPublished ? verdict_->sentence.data() : "";
}

}  // namespace angel_ptm
