// Updates units beside the training, with bounded staleness (after Nie et al. 2023, Angel-PTM, Algorithm 2).
//
// Gradients of a step are delivered to their unit's open mailbox when its norm is known, scaled by its clip factor and
// batch, and added to what still waits there. A job takes all that waits for one unit, as one AdamW step, and plays the
// unit's sweep on lanes of its own; meanwhile the unit's second mailbox is the open one. The new parameters are written
// beside those that micro-steps read, and published between steps, when nothing is played: never torn. Units that share
// a home for second mailbox and new parameters take turns.
//
// All ranks publish the same jobs at the same step. They begin jobs in the same order, tell each other how many they
// have finished with the step's norm, and publish what all have; what the bound on staleness demands they wait for.
//
// Thread safety: one caller (the trainer's thread, while no segment is played) but for what is marked otherwise; the
// jobs run on the updater's own threads.
#ifndef ANGEL_PTM_EXEC_LOCK_FREE_UPDATER_H_
#define ANGEL_PTM_EXEC_LOCK_FREE_UPDATER_H_

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/exec/lane_backend.h"
#include "angel_ptm/exec/lanes.h"
#include "angel_ptm/model/lock_free.h"
#include "kernels/kernel_call.h"

namespace angel_ptm {

class LockFreeUpdater {
 public:
  // The scalars of AdamW step `update` (1-based) of a unit, whose newest gradients are of a step with these.
  using ScalarsAt = std::function<UpdateDecision(const UpdateDecision& of_step, int64_t update)>;

  struct Start {
    int64_t max_staleness = 0;     // steps by which what a step uses may lag, >= 0
    int64_t next_step = 0;         // the first one; nothing waits before it
    std::vector<int64_t> updates;  // by unit: AdamW steps so far
    ScalarsAt scalars_at;
  };

  // Of a plan with sweeps. graph, plan, the machine's parts and no_decay must outlive it.
  LockFreeUpdater(const Graph& graph, const Plan& plan, const Machine& machine, const AdamWConstants& adamw,
                  const NoDecay& no_decay);
  ~LockFreeUpdater();

  // Once, before the first step, when the homes hold their state.
  void Begin(Start start);
  // From now on; when nothing waits.
  void SetMaxStaleness(int64_t steps);

  // Before the step's first micro-batch: waits for what may lag no longer, and publishes. Errors: of jobs, whether this
  // step waits for them or not.
  absl::Status BeginStep(int64_t step);
  // The step's gradients have been delivered, unless it was skipped: jobs begin.
  void EndStep(int64_t step, const UpdateDecision& decision);
  // Until nothing waits: all homes hold the newest state, alike on all ranks.
  absl::Status Drain();

  // Called by the comm lane, around the norm's exchange: how many jobs this rank has finished, and all ranks at least.
  int64_t finished() const { return finished_.load(std::memory_order_acquire); }
  void Agree(int64_t finished_by_all) { finished_by_all_ = finished_by_all; }
  // Called by lanes, of the open mailbox: what is at dst, in it, is overwritten with src * scale or, if something
  // waits, gets that added.
  void Deliver(UnitId unit, std::span<float> dst, std::span<const float> src, float scale) const;
  // Called by lanes: bytes from a unit's home of the state to where deliveries find it now: of a mailbox the second one
  // while the unit is updated, else 0.
  int64_t BufferShift(UnitId unit, StateId state) const;

  // How many units lag by 0, 1, ... max_staleness steps in the step begun last.
  const std::vector<int64_t>& units_by_lag() const { return units_by_lag_; }
  // AdamW steps by unit, when nothing waits.
  std::vector<int64_t> updates() const;
  int64_t max_staleness() const { return start_.max_staleness; }
  // Seconds that BeginStep and Drain have waited since the last call, and each lane was busy.
  double TakeWaitSeconds() { return std::exchange(wait_seconds_, 0.0); }
  std::array<double, kLaneCount> TakeBusySeconds() { return lanes_.TakeBusySeconds(); }

 private:
  struct UnitState {
    bool trained = false;
    bool waiting = false;      // something is in the open mailbox
    bool running = false;      // a job is begun and not published
    int turn = 0;              // index into running_
    int64_t job = 0;           // number of the one that runs, over all units
    int64_t holds = 0;         // steps before this one are in the parameters that are read
    int64_t will_hold = 0;     // and when the job is published
    int64_t updates = 0;       // AdamW steps, that of the job included
    UpdateDecision of_newest;  // step whose gradients wait
  };
  struct Job {
    UnitId unit = kNone;
    int64_t step = 0;  // in which it was begun
    UpdateDecision decision;
  };
  struct BoundSweep {
    std::vector<std::unique_ptr<const KernelCall>> calls;  // by step
    std::vector<std::string> names;                        // by step
  };

  int64_t OffsetOf(const Segment& segment, const Place& place) const;
  std::byte* Address(const Segment& segment, const Place& place) const;
  void Bind(const Segment& sweep, const AdamWConstants& adamw, const NoDecay& no_decay);
  std::byte* HomeOf(UnitId unit, StateId state) const;
  void BeginJob(UnitId unit);
  void BeginJobs();
  absl::Status Await(UnitId unit);
  absl::Status AwaitAndPublish(UnitId unit);
  void Publish(UnitId unit);

  // The updater's threads, from here on.
  void RunJobs(std::stop_token stop);
  absl::Status RunStep(const Segment& segment, int32_t index);
  absl::Status RunUntraced(const Segment& segment, int32_t index);
  void Update(const Segment& segment, int32_t index);

  const Graph& graph_;
  const Plan& plan_;
  const Machine machine_;
  const LockFreeRows rows_;
  std::vector<BoundSweep> bound_;  // by Plan::sweeps
  Lanes lanes_;

  Start start_;
  int64_t step_ = 0;  // steps before it have ended
  std::vector<UnitState> units_;
  std::vector<UnitId> running_;  // by turn: of units that share homes the one that has a job, or kNone
  UnitId next_ = 0;              // the first to get a job, if it waits
  std::vector<int64_t> units_by_lag_;
  double wait_seconds_ = 0;
  int64_t finished_by_all_ = 0;  // written by the comm lane, read when it is idle
  int64_t begun_ = 0;            // jobs

  std::mutex mutex_;  // guards jobs_, failure_; the ends of jobs
  std::condition_variable_any changed_;
  std::vector<Job> jobs_;  // a ring: job n is at n % units
  int64_t issued_ = 0;     // guarded by mutex_
  absl::Status failure_;   // of the first job that failed; behind it none runs
  std::atomic<int64_t> finished_ = 0;
  UpdateDecision decision_;  // of the job that runs
  UnitId swept_ = kNone;     // by it
  int64_t begun_in_ = 0;     // the step in which it was begun
  std::jthread thread_;      // last: ends first
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_EXEC_LOCK_FREE_UPDATER_H_
