// Trains a tiny model for a few steps on synthetic tokens, directly with Graph, Plan and Executor: what the law tests
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

// Four-layer models with grouped-query attention. MoE: 4 experts, top 2 and a shared one, tied embeddings. Split
// experts are a little wider, so that their parts are whole slices on up to four ranks.
HunyuanLmShape TinyDense();
HunyuanLmShape TinyMoe(int expert_degree = 1);

// What a run plays: its graph, and a verified plan within its budgets.
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
  bool file_tier = false;  // a file holds what fits neither budget
  int prefetch_steps = 4;
  int accumulation = 1;
  double ema_decay = 0;  // of an average of the weights; 0: none
  // Steps by which a lock-free update may lag; kNone: it is synchronous.
  int max_staleness = kNone;
  double file_bytes_per_second = 0;  // of the file tier, each way; 0: what the machine has
  // The checksum of the file tier's blocks; with none, the tier detects no damage.
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

  // The run's MakeTinyPlan for this world, if the caller already has it; null: Train makes it.
  std::shared_ptr<const TinyPlan> plan;

  // Test hooks, called on every rank. Returns which of the step's micro-batches is fed in the place of `number`; a
  // value past the last one feeds a micro-batch that weighs nothing.
  std::function<int(int64_t step, int number)> feed;
  // After each micro-step, before the update.
  std::function<void(const Graph&, const Layout&, const Machine&, int64_t step, int micro)> tamper;
  // Creates the GPU that a rank computes on, whose kernels enqueue work on it (tests/support/fake_device.h); empty: the
  // rank computes on the host.
  std::function<std::unique_ptr<DeviceApi>(int rank)> device;
  const KernelTable* device_kernels = nullptr;
  // How collectives between GPUs travel; by default they are staged through host memory.
  CollectivesWish collectives;
  // Replaces the drive of the rank's file tier; empty: the drive itself.
  std::function<std::unique_ptr<BlockFile>(std::unique_ptr<BlockFile> drive, int rank)> wrap_drive;
  // Replaces the rank's communicator.
  std::function<std::unique_ptr<Communicator>(Communicator& inner)> wrap;
};

struct TinyResult {
  std::vector<double> losses, norms;  // by step
  // Of a lock-free update: LockFreeUpdater::units_by_lag by step, equal on all ranks; AdamW steps by unit; how long
  // this rank waited.
  std::vector<std::vector<int64_t>> units_by_lag;
  std::vector<int64_t> unit_updates;
  double wait_seconds = 0;
  std::vector<std::vector<float>> parameters,
      moments;  // by unit: whole vectors, all other saved states one after the other
  int64_t device_arena_bytes = 0, host_arena_bytes = 0, file_arena_bytes = 0;
  int64_t moves = 0;    // kMove steps of the micro-step and the update
  bool joined = false;  // updates ran beside the next step's first micro-step
  std::array<int64_t, kMemoryClassCount> device_peak_by_class = {};
  std::vector<int64_t> state_bytes;  // by state: what rank 0 stores, on all tiers
  std::string checkpoint;            // saved at the end

  // Compares everything that law 1 promises to be equal bit for bit.
  bool SameBits(const TinyResult& other) const;
  std::string Difference(const TinyResult& other) const;
};

// Trains as rank `communicator.rank()`; every rank returns the same result. Plans are verified and arenas start full of
// NaN. Returns kInternal if, at the end, the ranks' copies of unsharded state differ.
absl::StatusOr<TinyResult> Train(const TinyRun& run, Communicator& communicator);

// Trains with all ranks as threads of this process, which share one plan. Returns rank 0's result, or an error of any
// rank.
absl::StatusOr<TinyResult> TrainLocally(const TinyRun& run, int world_size);

// Device bytes that the run takes without a budget.
int64_t UnconstrainedDeviceBytes(const TinyRun& run, int world_size);

// A device budget of `percent` of that, or the least that works if that is more: the kernels' further needs differ
// among processors.
int64_t DeviceBudget(const TinyRun& run, int world_size, int percent);

// The range of host budgets for a run with its device budget. `all` is what it takes if no state rests in a file and
// nothing starts early; `least` is the least that works if state may rest in a file. Both are 0 if it takes none.
struct HostRange {
  int64_t least = 0, all = 0;
};
HostRange HostBytes(const TinyRun& run, int world_size);

// The training graph of a run, with the update segment.
Graph TinyGraph(const TinyRun& run);

// Plans a run. The plan depends on the run's model, numerics, stage, pages, budgets and prefetching, and on what its
// kernels take; runs that differ only in other fields may share it. Errors: the planner's, VerifyPlan's.
absl::StatusOr<std::shared_ptr<const TinyPlan>> MakeTinyPlan(const TinyRun& run, int world_size);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_LAWS_TINY_RUN_H_
