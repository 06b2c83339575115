// Where every rank writes what it is doing and that it lives, to be read by the ranks that wait for it, and where the
// one sentence that ends a run is written. The board lies in memory shared by the ranks of a machine (or of a process).
//
// Signs of life, the whole rule:
// * The beginning of every step of a Plan is one (Publish).
// * Waiting for others is one (Sign, from the polls of a wait): a rank that waits is never silent.
// * Between the steps of a Plan (Publish with an empty activity: reading, writing and removing files, start-up,
//   printing) a rank may take its time: there it is enough that its process runs (Beat, from its watcher's thread).
// So a rank is silent when it is stopped, or when it hangs in a step.
//
// Every machine of a run has a board, with a row for each rank of the run. Ranks write their own rows. What is heard of
// the ranks of other machines is mirrored in theirs (machine_relay.h) and judged by the same rule.
#ifndef ANGEL_PTM_COMM_PROGRESS_BOARD_H_
#define ANGEL_PTM_COMM_PROGRESS_BOARD_H_

#include <array>
#include <atomic>
#include <cstddef>
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
  enum State : int64_t { kNotStarted, kRunning, kFinished };
  int64_t state = kNotStarted;
  int64_t process_id = 0;
  // When the process started, in clock ticks since boot: with process_id and pid_namespace it identifies one process,
  // even when numbers are reused. 0 if it could not be found out.
  int64_t process_start_ticks = 0;
  int64_t pid_namespace = 0;  // process_id means something only in the same namespace
  int64_t step = -1;
  int64_t changed_ns = 0;  // by the machine's monotonic clock
  int64_t remote = 0;      // 1: a rank of another machine, as its relay reports
  // The state of a remote rank's process, as its machine last reported: ProcessState's letter, 0 if that machine could
  // not tell.
  int64_t process_state = 0;
  std::array<char, 64> host = {};
  std::array<char, 104> activity = {};  // empty: between steps

  // "step 12 in backward layer.3", "start-up", "step 12 between two passes".
  std::string Where() const;
};

// What /proc says about a process.
struct ProcessState {
  char state = 'X';          // R, S, D, T (stopped), t (held by a debugger), Z, X
  int64_t start_ticks = -1;  // -1: there is no such process, or it is a zombie

  bool stopped() const { return state == 'T' || state == 't'; }
};

class ProgressBoard {
 public:
  // For ranks that are threads of this process: one board, shared by all.
  static std::shared_ptr<ProgressBoard> InProcess(int size);
  // For ranks that are processes: `memory`, of BytesFor(size) zeroed bytes, is shared by the ranks of a machine.
  static std::shared_ptr<ProgressBoard> In(std::unique_ptr<SharedMemory> memory, int size);
  static int64_t BytesFor(int size);

  int size() const { return static_cast<int>(rows_.size()); }

  // Any thread of rank's process; cheap enough for every step of a Plan (no allocation, no system call but the vDSO
  // clock). An activity is cut at 103 bytes.
  void Publish(int rank, int64_t step, std::string_view activity);
  void Sign(int rank) { rows_[rank].signs.fetch_add(1, std::memory_order_relaxed); }
  void Beat(int rank);
  // Marks the rank as finished: it needs no more watching.
  void Finish(int rank);

  // False if the rank has never published or was killed while writing.
  bool Read(int rank, RankProgress* progress) const;
  // Both only grow. A rank whose signs stand still is silent; one whose beats stand still does not run.
  uint64_t signs(int rank) const { return rows_[rank].signs.load(std::memory_order_relaxed); }
  uint64_t beats(int rank) const { return rows_[rank].beats.load(std::memory_order_relaxed); }
  // Grows with every word from a remote rank's machine.
  uint64_t heard(int rank) const { return rows_[rank].heard.load(std::memory_order_relaxed); }

  // Records what another machine reports about its rank: state, process, step, host and activity as they are there, and
  // the counters. A report that is older than the row counts as heard and changes nothing else; the row of a rank that
  // writes here itself is never changed. To be called by one thread of the machine.
  void Mirror(int rank, RankProgress progress, uint64_t signs, uint64_t beats);

  // The state of a rank's process; nothing if this process cannot tell (another PID namespace, no descriptor left).
  std::optional<ProcessState> StateOf(const RankProgress& progress) const;
  // Whether a running rank's process is gone, as far as this process can tell; false if it cannot look at that process.
  bool Died(const RankProgress& progress) const;

  // Ends the run: every rank that waits, now or later, stops with this sentence. Only the first sentence counts.
  // Returns true if this was the first; the caller then tells it to the user.
  bool Accuse(std::string_view sentence);
  // The sentence that ended the run; empty while there is none.
  std::string Verdict() const;

 private:
  struct VerdictSlot {
    enum State : uint32_t { kNone, kBeingWritten, kPublished };
    std::atomic<uint32_t> state{kNone};
    std::array<char, 2044> sentence = {};
  };
  struct alignas(64) Row {
    SharedRecord<RankProgress> record;
    std::atomic<uint64_t> signs{0}, beats{0}, heard{0};
    std::atomic<uint32_t> between_steps{0};
  };

  explicit ProgressBoard(int size);
  void Lay(void* memory, int size);
  void Write(int rank, RankProgress::State state, int64_t step, std::string_view activity);

  std::unique_ptr<SharedMemory> shared_;  // one of shared_ and in_process_
  struct FreeLines {
    void operator()(std::byte* p) const;
  };
  std::unique_ptr<std::byte, FreeLines> in_process_;
  VerdictSlot* verdict_ = nullptr;
  std::span<Row> rows_;
  std::unique_ptr<std::mutex[]> writing_;  // [size] the lanes of a rank take turns writing
  std::array<char, 64> host_ = {};
  int64_t process_id_ = 0, process_start_ticks_ = 0, pid_namespace_ = 0;
};

// From /proc/<process_id>/stat; nothing if that cannot be told (no file descriptor left, say).
std::optional<ProcessState> StateOfProcess(int64_t process_id);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_PROGRESS_BOARD_H_
