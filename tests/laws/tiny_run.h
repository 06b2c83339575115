// A few training steps of a tiny model on synthetic tokens, straight on Graph, Plan and Executor: what the law tests
// compare.
#ifndef ANGEL_PTM_TESTS_LAWS_TINY_RUN_H_
#define ANGEL_PTM_TESTS_LAWS_TINY_RUN_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "angel_ptm/base/checksum.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/exec/device_collectives.h"
#include "angel_ptm/exec/executor.h"
#include "angel_ptm/memory/block_file.h"
#include "angel_ptm/memory/device_api.h"
#include "angel_ptm/memory/file_store.h"
#include "angel_ptm/model/hunyuan_lm.h"
#include "angel_ptm/plan/planner.h"
#include "comm/communicator.h"

namespace angel_ptm {

// Four-layer models with grouped-query attention; MoE: 4 experts, top 2 and shared, tied embeddings. Split experts are
// a little wider, so that parts are whole slices on up to four ranks.
HunyuanLmShape TinyDense();
HunyuanLmShape TinyMoe(int expert_degree = 1);

// What a run plays: its graph, and the proved plan within its budgets.
struct TinyPlan {
  Graph graph;
  Plan plan;
};

struct TinyRun {
  HunyuanLmShape shape = TinyMoe();
  HunyuanLmBatch batch{.rows = 2, .sequence = 32, .lm_head_chunk_tokens = 24, .expert_block_rows = 8};
  DType compute = DType::kFloat32;
  DType gradients = DType::kFloat32;
  int ranks_per_node = 0;  // as in WorldShape; of the world that Train is given
  bool recompute = false;
  int zero_stage = 0;
  int64_t page_bytes = 4096;
  int64_t device_bytes = 0;
  int64_t host_bytes = 0;
  bool file_tier = false;  // what neither budget has room for rests in a file
  int prefetch_steps = 4;
  int accumulation = 1;
  double ema_decay = 0;  // of an average of the weights; 0: none
  // Steps by which a lock-free update may lag; kNone: it is synchronous.
  int max_staleness = kNone;
  double file_bytes_per_second = 0;  // of the file tier, each way; 0: what the machine has
  // What of a drive's blocks the file tier knows; another one may know nothing.
  FileStore::Checksum file_checksum = Xxh3;
  bool join = false;  // play each update beside the next step's first micro-step, if holes leave room for that
  int steps = 3;      // the run ends before this step
  int threads = 1;
  uint64_t seed = 7;
  int global_micro_batches = 0;  // per step, over all ranks; 0: accumulation * world size. Missing ones weigh nothing
  std::string load_checkpoint;   // go on at first_step from this checkpoint; empty: start from the seed
  int64_t first_step = 0;
  int64_t skipped_step = -1;   // whose update is not applied
  std::string save_directory;  // save a checkpoint here at the end; empty: none

  // MakeTinyPlan of this run in its world, for who has it already; null: it is made.
  std::shared_ptr<const TinyPlan> plan;

  // Test hooks, called on every rank.
  // Which of the step's micro-batches is fed in the place of `number`; past the last one: one that weighs nothing.
  std::function<int(int64_t step, int number)> feed;
  // After each micro-step, before the update.
  std::function<void(const Graph&, const Layout&, const Machine&, int64_t step, int micro)> tamper;
  // Makes the GPU that a rank computes on, with what kernels put their work there (tests/support/fake_device.h); empty:
  // on the host.
  std::function<std::unique_ptr<DeviceApi>(int rank)> device;
  const KernelTable* device_kernels = nullptr;
  // How GPUs' collectives travel; staged through host memory by default.
  CollectivesWish collectives;
  // What the rank's file tier has instead of its drive; empty: the drive.
  std::function<std::unique_ptr<BlockFile>(std::unique_ptr<BlockFile> drive, int rank)> wrap_drive;
  // What the rank talks through instead of its communicator.
  std::function<std::unique_ptr<Communicator>(Communicator& inner)> wrap;
};

struct TinyResult {
  std::vector<double> losses, norms;  // by step
  // Of a lock-free update: LockFreeUpdater::units_by_lag by step, the same on all ranks; AdamW steps by unit; what this
  // rank waited.
  std::vector<std::vector<int64_t>> units_by_lag;
  std::vector<int64_t> unit_updates;
  double wait_seconds = 0;
  std::vector<std::vector<float>> parameters,
      moments;  // by unit: whole vectors, all other saved states one after the other
  int64_t device_arena_bytes = 0, host_arena_bytes = 0, file_arena_bytes = 0;
  int64_t moves = 0;    // kMove steps of the micro-step and the update
  bool joined = false;  // updates were played beside the next step's first micro-step
  std::array<int64_t, kMemoryClassCount> device_peak_by_class = {};
  std::vector<int64_t> state_bytes;  // by state: what rank 0 stores, on all tiers
  std::string checkpoint;            // saved at the end

  // Everything law 1 promises to be equal bit for bit.
  bool SameBits(const TinyResult& other) const;
  std::string Difference(const TinyResult& other) const;
};

// Runs as rank `communicator.rank()`; every rank returns the same result. Plans have been verified, arenas start full
// of NaN, and at the end the ranks' copies of what is not sharded must be equal, else kInternal.
absl::StatusOr<TinyResult> Train(const TinyRun& run, Communicator& communicator);

// All ranks as threads of this process, which share one plan; rank 0's result. An error of any rank is the result.
absl::StatusOr<TinyResult> TrainLocally(const TinyRun& run, int world_size);

// Device bytes the run takes without a budget.
int64_t UnconstrainedDeviceBytes(const TinyRun& run, int world_size);

// A device budget of so much of that, or the least that works: what kernels need beside differs among processors.
int64_t DeviceBudget(const TinyRun& run, int world_size, int percent);

// The host bytes of a run of such a device budget: all that it takes where no state rests in a file and nothing comes
// early, and the least that works where one may. Both 0 if it takes none.
struct HostRange {
  int64_t least = 0, all = 0;
};
HostRange HostBytes(const TinyRun& run, int world_size);

// The training graph of a run, with the update segment.
Graph TinyGraph(const TinyRun& run);

// Of the run's model, numerics, stage, pages, budgets and prefetching, and of what its kernels take: runs that differ
// in anything else may share it. Errors: the planner's, VerifyPlan's.
absl::StatusOr<std::shared_ptr<const TinyPlan>> MakeTinyPlan(const TinyRun& run, int world_size);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_LAWS_TINY_RUN_H_
