// Where every rank writes what it is doing, for the others to read when it no longer answers: process, host, step,
// activity and the time of the last change, in memory shared by the ranks of a machine (or of a process).
#ifndef ANGEL_PTM_COMM_PROGRESS_BOARD_H_
#define ANGEL_PTM_COMM_PROGRESS_BOARD_H_

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "angel_ptm/base/status.h"
#include "comm/shared_memory.h"
#include "comm/shared_record.h"

namespace angel_ptm {

struct RankProgress {
  enum State : int64_t { kNotStarted, kRunning, kFinished, kFailed };
  int64_t state = kNotStarted;
  int64_t process_id = 0;
  // When the process started, in clock ticks since boot: with process_id and pid_namespace it names one process for
  // good. 0 if it could not be found out.
  int64_t process_start_ticks = 0;
  int64_t pid_namespace = 0;  // process_id means something only to processes of the same one
  int64_t step = -1;
  int64_t changed_ns = 0;  // of the machine's monotonic clock
  std::array<char, 64> host = {};
  std::array<char, 104> activity = {};  // when kFailed: the reason

  // "step 12 in backward layer.3", "start-up".
  std::string Where() const;
};

class ProgressBoard {
 public:
  // For ranks that are threads of this process: one board, shared by all.
  static std::shared_ptr<ProgressBoard> InProcess(int size);

  // For ranks that are processes: each opens `path`, a name no other run uses (MpiWorld::MakeSharedName); ranks of
  // other machines have a file of their own under that name. Unlink it on each machine once all have opened it.
  static absl::StatusOr<std::shared_ptr<ProgressBoard>> Open(const std::string& path, int size);
  void Unlink();

  int size() const { return static_cast<int>(records_.size()); }

  // Any thread of rank's process; cheap enough for every step of a Plan (no allocation, no system call but the vDSO
  // clock). An activity is cut at 103 bytes.
  void Publish(int rank, int64_t step, std::string_view activity);
  // The rank needs no watching any more, or stopped by itself for `reason`.
  void Finish(int rank);
  void Fail(int rank, std::string_view reason);

  // Whether a running rank's process is gone, as far as this process can tell: one that it cannot look at is not.
  bool Died(const RankProgress& progress) const;

  // False if the rank has never published or was killed while writing.
  bool Read(int rank, RankProgress* progress) const;

 private:
  explicit ProgressBoard(int size);
  void Write(int rank, RankProgress::State state, int64_t step, std::string_view activity);

  using Record = SharedRecord<RankProgress>;
  std::unique_ptr<SharedMemory> shared_;  // one of these two
  std::unique_ptr<Record[]> in_process_;
  std::span<Record> records_;
  std::unique_ptr<std::mutex[]> writing_;  // [size] the lanes of a rank take turns
  std::array<char, 64> host_ = {};
  int64_t process_id_ = 0, process_start_ticks_ = 0, pid_namespace_ = 0;
};

// Field 22 of /proc/<process_id>/stat, -1 if there is no such process or it is a zombie, nothing if that cannot be told
// (no file descriptor left, say).
std::optional<int64_t> ProcessStartTicks(int64_t process_id);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_PROGRESS_BOARD_H_
