// Where every rank writes what it is doing and that it lives, for the others to read when they wait for it, in memory
// shared by the ranks of a machine (or of a process); and where the one sentence stands that ends a run.
//
// Signs of life, the whole rule:
// * Every step of a Plan that begins is one (Publish).
// * Waiting for others is one (Sign, from the polls of a wait): a witness is never silent.
// * Between the steps of a Plan (Publish with an empty activity: reading, writing and removing files, start-up,
//   printing) a rank may take its time: there it is enough that its process runs (Beat, from its watcher's thread).
// So a rank is silent when it is stopped, or when it hangs in a step.
//
// Every machine of a run has a board, with a row for each rank of the run. Ranks write their own; what is heard of
// those of other machines is mirrored (machine_relay.h) and judged by the same rule.
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
  // When the process started, in clock ticks since boot: with process_id and pid_namespace it names one process for
  // good. 0 if it could not be found out.
  int64_t process_start_ticks = 0;
  int64_t pid_namespace = 0;  // process_id means something only to processes of the same one
  int64_t step = -1;
  int64_t changed_ns = 0;  // of the machine's monotonic clock
  int64_t remote = 0;      // 1: of another machine, told by its relay
  // Of a remote rank's process, as its machine last said: ProcessState's letter, 0 if it could not tell.
  int64_t process_state = 0;
  std::array<char, 64> host = {};
  std::array<char, 104> activity = {};  // empty: between steps

  // "step 12 in backward layer.3", "start-up", "step 12 between two passes".
  std::string Where() const;
};

// What /proc says of a process.
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
  // The rank needs no watching any more.
  void Finish(int rank);

  // False if the rank has never published or was killed while writing.
  bool Read(int rank, RankProgress* progress) const;
  // Both only grow; a rank whose signs stand is silent, one whose beats stand does not run.
  uint64_t signs(int rank) const { return rows_[rank].signs.load(std::memory_order_relaxed); }
  uint64_t beats(int rank) const { return rows_[rank].beats.load(std::memory_order_relaxed); }
  // Grows with every word from a remote rank's machine.
  uint64_t heard(int rank) const { return rows_[rank].heard.load(std::memory_order_relaxed); }

  // What another machine says of its rank: state, process, step, host and activity as they are there, and the counters.
  // What is older than what stands here counts as heard of and changes nothing; a rank that writes here itself is never
  // changed. One thread of the machine.
  void Mirror(int rank, RankProgress progress, uint64_t signs, uint64_t beats);

  // The state of a rank's process; nothing if this process cannot tell (another PID namespace, no descriptor left).
  std::optional<ProcessState> StateOf(const RankProgress& progress) const;
  // Whether a running rank's process is gone, as far as this process can tell: one that it cannot look at is not.
  bool Died(const RankProgress& progress) const;

  // Ends the run: every rank that waits, now or later, stops with this sentence. Only the first one counts: true if
  // this was it, and whoever gets true says it to the user.
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

  std::unique_ptr<SharedMemory> shared_;  // one of these two
  struct FreeLines {
    void operator()(std::byte* p) const;
  };
  std::unique_ptr<std::byte, FreeLines> in_process_;
  VerdictSlot* verdict_ = nullptr;
  std::span<Row> rows_;
  std::unique_ptr<std::mutex[]> writing_;  // [size] the lanes of a rank take turns
  std::array<char, 64> host_ = {};
  int64_t process_id_ = 0, process_start_ticks_ = 0, pid_namespace_ = 0;
};

// From /proc/<process_id>/stat; nothing if that cannot be told (no file descriptor left, say).
std::optional<ProcessState> StateOfProcess(int64_t process_id);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_PROGRESS_BOARD_H_
