// Updates units concurrently with training, with bounded staleness (after Nie et al. 2023, Angel-PTM, Algorithm 2).
//
// When the norm of a step is known, its gradients are delivered to their unit's open mailbox, scaled by the step's clip
// factor and batch, and added to what still waits there. A job takes everything that waits for one unit, as one AdamW
// step, and plays the unit's sweep on the updater's own lanes; meanwhile the unit's second mailbox is the open one. The
// job writes the new parameters beside those that micro-steps read. They are published between steps, when nothing is
// played, so parameters are never torn. Units that share a home for second mailbox and new parameters take turns.
//
// All ranks publish the same jobs at the same step. They begin jobs in the same order, tell each other with the step's
// norm how many they have finished, and publish those that all have finished. They wait for the jobs that the bound on
// staleness demands.
//
// Thread safety: one caller (the trainer's thread, while no segment is played), except where marked otherwise; jobs run
// on the updater's own threads.
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
  // The scalars of AdamW step `update` (1-based) of a unit whose newest gradients are of a step with the decision
  // `of_step`.
  using ScalarsAt = std::function<UpdateDecision(const UpdateDecision& of_step, int64_t update)>;

  struct Start {
    int64_t max_staleness = 0;     // steps by which the parameters of a step may lag, >= 0
    int64_t next_step = 0;         // the first step; nothing waits before it
    std::vector<int64_t> updates;  // by unit: AdamW steps so far
    ScalarsAt scalars_at;
  };

  // For a plan with sweeps. graph, plan, the machine's parts and no_decay must outlive the updater.
  LockFreeUpdater(const Graph& graph, const Plan& plan, const Machine& machine, const AdamWConstants& adamw,
                  const NoDecay& no_decay);
  ~LockFreeUpdater();

  // To be called once, before the first step, when the homes hold their state.
  void Begin(Start start);
  // Holds from now on. To be called when nothing waits.
  void SetMaxStaleness(int64_t steps);

  // To be called before the step's first micro-batch: waits for what may lag no longer, and publishes finished jobs.
  // Returns errors of jobs, whether this step waits for them or not.
  absl::Status BeginStep(int64_t step);
  // To be called when the step's gradients have been delivered, or the step was skipped: begins jobs.
  void EndStep(int64_t step, const UpdateDecision& decision);
  // Runs jobs until nothing waits: then all homes hold the newest state, alike on all ranks.
  absl::Status Drain();

  // Called by the comm lane, around the norm's exchange: how many jobs this rank has finished, and how many all ranks
  // have finished at least.
  int64_t finished() const { return finished_.load(std::memory_order_acquire); }
  void Agree(int64_t finished_by_all) { finished_by_all_ = finished_by_all; }
  // Called by lanes. dst lies in the open mailbox: src * scale is added to what is there if something waits, and
  // otherwise overwrites it.
  void Deliver(UnitId unit, std::span<float> dst, std::span<const float> src, float scale) const;
  // Called by lanes: the distance in bytes from a unit's home of the state to where deliveries find the state now. For
  // a mailbox this is the distance to the second one while the unit is updated; otherwise 0.
  int64_t BufferShift(UnitId unit, StateId state) const;

  // How many units lag by 0, 1, ... max_staleness steps in the step that began last.
  const std::vector<int64_t>& units_by_lag() const { return units_by_lag_; }
  // AdamW steps by unit, when nothing waits.
  std::vector<int64_t> updates() const;
  int64_t max_staleness() const { return start_.max_staleness; }
  // Seconds that BeginStep and Drain have waited since the last call, and that each lane was busy.
  double TakeWaitSeconds() { return std::exchange(wait_seconds_, 0.0); }
  std::array<double, kLaneCount> TakeBusySeconds() { return lanes_.TakeBusySeconds(); }

 private:
  struct UnitState {
    bool trained = false;
    bool waiting = false;      // something is in the open mailbox
    bool running = false;      // a job has begun and is not published yet
    int turn = 0;              // index into running_
    int64_t job = 0;           // number of the job that runs, over all units
    int64_t holds = 0;         // the parameters that are read have the steps before this one
    int64_t will_hold = 0;     // the same when the job is published
    int64_t updates = 0;       // AdamW steps, that of the job included
    UpdateDecision of_newest;  // of the newest step whose gradients wait
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

  // Called on the updater's threads, from here on.
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
  std::vector<UnitId> running_;  // by turn: which unit of those that share homes has a job, or kNone
  UnitId next_ = 0;              // the first to get a job, if it waits
  std::vector<int64_t> units_by_lag_;
  double wait_seconds_ = 0;
  int64_t finished_by_all_ = 0;  // written by the comm lane, read when it is idle
  int64_t begun_ = 0;            // jobs begun

  std::mutex mutex_;  // guards jobs_, failure_ and the ends of jobs
  std::condition_variable_any changed_;
  std::vector<Job> jobs_;  // a ring: job n is at n % units
  int64_t issued_ = 0;     // guarded by mutex_
  absl::Status failure_;   // of the first job that failed; no job runs after it
  std::atomic<int64_t> finished_ = 0;
  UpdateDecision decision_;  // of the job that runs
  UnitId swept_ = kNone;     // the unit of that job
  int64_t begun_in_ = 0;     // the step in which that job was begun
  std::jthread thread_;      // last: ends first
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_EXEC_LOCK_FREE_UPDATER_H_
