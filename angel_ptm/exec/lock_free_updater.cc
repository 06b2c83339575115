#include "angel_ptm/exec/lock_free_updater.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/exec/trace.h"
#include "angel_ptm/model/op_rules.h"
#include "angel_ptm/plan/plan_text.h"

namespace angel_ptm {

LockFreeUpdater::LockFreeUpdater(const Graph& graph, const Plan& plan, const Machine& machine,
                                 const AdamWConstants& adamw, const NoDecay& no_decay)
    : graph_(graph),
      plan_(plan),
      machine_(machine),
      rows_(FindLockFreeRows(plan.layout.states)),
      units_(graph.units().size()),
      jobs_(graph.units().size()) {
  for (const Segment& sweep : plan.sweeps) Bind(sweep, adamw, no_decay);
  std::map<int64_t, int> turns;  // by the home of the new parameters
  for (UnitId u = 0; u < static_cast<UnitId>(units_.size()); ++u) {
    units_[u].trained = !plan.sweeps[u].steps.empty();
    if (!units_[u].trained) continue;
    const int64_t home = plan.layout.home(u, rows_.new_parameters).range.offset;
    units_[u].turn = turns.try_emplace(home, static_cast<int>(turns.size())).first->second;
  }
  running_.assign(turns.size(), kNone);
  thread_ = std::jthread([this](std::stop_token stop) { RunJobs(stop); });
}

LockFreeUpdater::~LockFreeUpdater() = default;

int64_t LockFreeUpdater::OffsetOf(const Segment& segment, const Place& place) const {
  return plan_.layout.OffsetOf(segment.regions[place.region], place, machine_.communicator->rank());
}

std::byte* LockFreeUpdater::Address(const Segment& segment, const Place& place) const {
  return TierOf(machine_, segment.regions[place.region].range.tier)->data() + OffsetOf(segment, place);
}

void LockFreeUpdater::Bind(const Segment& sweep, const AdamWConstants& adamw, const NoDecay& no_decay) {
  BoundSweep& bound = bound_.emplace_back();
  for (const Step& step : sweep.steps) {
    bound.names.push_back(StepName(graph_, sweep, step));
    bound.calls.push_back(nullptr);
    if (step.kind != StepKind::kUpdate) continue;
    std::vector<void*> operands;
    for (const Place& place : step.operands) operands.push_back(Address(sweep, place));
    const Layout& layout = plan_.layout;
    const int rank = machine_.communicator->rank();
    const int64_t first = step.own ? layout.own_begin(step.unit, rank) : layout.part_begin(step.unit, rank);
    bound.calls.back() = RulesOf(graph_.ops[step.op].kind)
                             .bind_update({.address = operands,
                                           .type = graph_.table->compute_type(),
                                           .gradient_type = DType::kFloat32,
                                           .begin = step.begin + first,
                                           .count = step.count,
                                           .no_decay = no_decay[step.unit],
                                           .adamw = adamw,
                                           .decision = decision_});
  }
}

std::byte* LockFreeUpdater::HomeOf(UnitId unit, StateId state) const {
  const MemoryRange& range = plan_.layout.home(unit, state).range;
  return TierOf(machine_, range.tier)->data() + range.offset;
}

void LockFreeUpdater::Begin(Start start) {
  APTM_CHECK(start.updates.size() == units_.size() && start.scalars_at, "one count of updates a unit");
  start_ = std::move(start);
  step_ = start_.next_step;
  for (size_t u = 0; u < units_.size(); ++u) {
    units_[u].updates = start_.updates[u];
    units_[u].holds = step_;
  }
  SetMaxStaleness(start_.max_staleness);
}

void LockFreeUpdater::SetMaxStaleness(int64_t steps) {
  APTM_CHECK(steps >= 0);
  start_.max_staleness = steps;
  units_by_lag_.assign(static_cast<size_t>(steps) + 1, 0);
}

void LockFreeUpdater::BeginJob(UnitId unit) {
  UnitState& u = units_[unit];
  u.waiting = false;
  u.running = true;
  u.will_hold = step_;
  u.job = begun_++;
  APTM_CHECK(std::exchange(running_[u.turn], unit) == kNone, "two units at a time in one home");
  Job job{.unit = unit, .step = step_};
  job.decision = start_.scalars_at(u.of_newest, ++u.updates);
  job.decision.scalars.gradient_scale = 1;  // mailboxes hold scaled gradients
  {
    const std::lock_guard lock(mutex_);
    jobs_[static_cast<size_t>(u.job) % jobs_.size()] = job;
    issued_ = begun_;
  }
  changed_.notify_all();
}

void LockFreeUpdater::BeginJobs() {
  const UnitId count = static_cast<UnitId>(units_.size()), first = next_;
  for (UnitId i = 0; i < count; ++i) {
    const UnitId unit = static_cast<UnitId>((first + i) % count);
    if (!units_[unit].waiting || units_[unit].running || running_[units_[unit].turn] != kNone) continue;
    BeginJob(unit);
    next_ = static_cast<UnitId>((unit + 1) % count);
  }
}

absl::Status LockFreeUpdater::Await(UnitId unit) {
  const int64_t job = units_[unit].job;
  const auto begin = std::chrono::steady_clock::now();
  std::unique_lock lock(mutex_);
  // Wakes up now and then to show watchers that this rank is alive.
  constexpr auto kSignOfLife = std::chrono::milliseconds(100);
  bool waited = false;
  for (; failure_.ok() && finished() <= job; waited = true) {
    if (machine_.publish) machine_.publish(step_, "waiting for a lock-free update");
    changed_.wait_for(lock, kSignOfLife);
  }
  // What comes next, for example a checkpoint, is between steps, where a rank may take its time.
  if (waited && machine_.publish) machine_.publish(step_, {});
  wait_seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return finished() > job ? absl::OkStatus() : failure_;
}

// Between steps: nobody reads parameters or delivers.
void LockFreeUpdater::Publish(UnitId unit) {
  UnitState& u = units_[unit];
  const auto copy = [&](StateId to, StateId from) {
    std::memcpy(HomeOf(unit, to), HomeOf(unit, from), static_cast<size_t>(plan_.layout.home(unit, to).range.bytes));
  };
  copy(kParameterState, rows_.new_parameters);
  if (u.waiting) copy(rows_.mailbox, rows_.second_mailbox);
  u.running = false;
  u.holds = u.will_hold;
  running_[u.turn] = kNone;
}

// All ranks wait for the same jobs, and each has finished all earlier ones.
absl::Status LockFreeUpdater::AwaitAndPublish(UnitId unit) {
  RETURN_IF_ERROR(Await(unit));
  finished_by_all_ = std::max(finished_by_all_, units_[unit].job + 1);
  Publish(unit);
  return absl::OkStatus();
}

absl::Status LockFreeUpdater::BeginStep(int64_t step) {
  APTM_CHECK(step == step_, "step ", step, " begins, ", step_, " is next");
  {
    const std::lock_guard lock(mutex_);
    RETURN_IF_ERROR(failure_);
  }
  const int64_t least = step - start_.max_staleness;
  for (UnitId unit = 0; unit < static_cast<UnitId>(units_.size()); ++unit) {
    UnitState& u = units_[unit];
    while (u.trained && u.holds < least) {
      if (const UnitId other = running_[u.turn]; other != kNone && other != unit) {
        RETURN_IF_ERROR(AwaitAndPublish(other));
      }
      if (!u.running) BeginJob(unit);
      RETURN_IF_ERROR(AwaitAndPublish(unit));
    }
  }
  std::ranges::fill(units_by_lag_, 0);
  for (UnitId unit = 0; unit < static_cast<UnitId>(units_.size()); ++unit) {
    UnitState& u = units_[unit];
    if (u.running && u.job < finished_by_all_) Publish(unit);
    const int64_t lag = step - u.holds;
    APTM_CHECK(!u.trained || lag <= start_.max_staleness, "unit ", unit, " lags by ", lag);
    if (u.trained) ++units_by_lag_[static_cast<size_t>(lag)];
  }
  BeginJobs();
  return absl::OkStatus();
}

void LockFreeUpdater::EndStep(int64_t step, const UpdateDecision& decision) {
  APTM_CHECK(step == step_, "step ", step, " ends, ", step_, " was begun");
  step_ = step + 1;
  for (UnitState& u : units_) {
    if (decision.apply && u.trained) {
      u.waiting = true;
      u.of_newest = decision;
    }
    // A step that changes nothing leaves nothing to wait for.
    if (u.waiting) continue;
    (u.running ? u.will_hold : u.holds) = step_;
  }
  BeginJobs();
}

absl::Status LockFreeUpdater::Drain() {
  for (bool some = true; some;) {
    BeginJobs();
    some = false;
    for (UnitId unit = 0; unit < static_cast<UnitId>(units_.size()); ++unit) {
      if (!units_[unit].running) continue;
      some = true;
      RETURN_IF_ERROR(AwaitAndPublish(unit));
    }
  }
  return absl::OkStatus();
}

void LockFreeUpdater::Deliver(UnitId unit, std::span<float> dst, std::span<const float> src, float scale) const {
  APTM_CHECK(dst.size() == src.size());
  if (units_[unit].waiting) {
    for (size_t i = 0; i < dst.size(); ++i) dst[i] += src[i] * scale;
  } else {
    for (size_t i = 0; i < dst.size(); ++i) dst[i] = src[i] * scale;
  }
}

int64_t LockFreeUpdater::BufferShift(UnitId unit, StateId state) const {
  if (state != rows_.mailbox || !units_[unit].running) return 0;
  const Layout& layout = plan_.layout;
  return layout.home(unit, rows_.second_mailbox).range.offset - layout.home(unit, state).range.offset;
}

std::vector<int64_t> LockFreeUpdater::updates() const {
  std::vector<int64_t> counts;
  for (const UnitState& u : units_) counts.push_back(u.updates);
  return counts;
}

void LockFreeUpdater::RunJobs(std::stop_token stop) {
  const angel_ptm::RunStep run = [this](const Segment& segment, int32_t i) { return RunStep(segment, i); };
  const NameStep name = [this](const Segment&, int32_t i) { return bound_[swept_].names[i]; };
  std::unique_lock lock(mutex_);
  const auto has_job = [this] { return failure_.ok() && finished() < issued_; };
  while (changed_.wait(lock, stop, has_job) && !stop.stop_requested()) {
    const Job& job = jobs_[static_cast<size_t>(finished()) % jobs_.size()];
    decision_ = job.decision;
    swept_ = job.unit;
    begun_in_ = job.step;
    lock.unlock();
    absl::Status status = lanes_.Play(plan_.sweeps[swept_], run, name);
    lock.lock();
    if (status.ok()) {
      finished_.fetch_add(1, std::memory_order_release);
    } else {
      failure_ = absl::Status(status.code(), absl::StrCat("rank ", machine_.communicator->rank(), ", ",
                                                          plan_.sweeps[swept_].name, ": ", status.message()));
    }
    changed_.notify_all();
  }
}

absl::Status LockFreeUpdater::RunStep(const Segment& segment, int32_t index) {
  if (machine_.trace == nullptr || !machine_.trace->Wants(begun_in_)) return RunUntraced(segment, index);
  TraceSpan span{.begin_ns = Trace::Now(), .step = begun_in_, .index = index, .segment = segment.name};
  const absl::Status status = RunUntraced(segment, index);
  span.end_ns = Trace::Now();
  span.name = bound_[swept_].names[index];
  machine_.trace->AddOfSweep(segment.steps[index].lane, span);
  return status;
}

absl::Status LockFreeUpdater::RunUntraced(const Segment& segment, int32_t index) {
  const Step& step = segment.steps[index];
  if (step.kind == StepKind::kUpdate) {
    Update(segment, index);
    return absl::OkStatus();
  }
  APTM_CHECK(step.kind == StepKind::kMove);
  FileStore& store = machine_.file->store();
  if (step.lane == Lane::kFileIn) {
    return store.Read(OffsetOf(segment, step.src), Address(segment, step.dst), step.dst.bytes);
  }
  return store.Write(OffsetOf(segment, step.dst), Address(segment, step.src), step.src.bytes);
}

void LockFreeUpdater::Update(const Segment& segment, int32_t index) {
  const Step& step = segment.steps[index];
  if (step.src.region != kNone) {
    const std::vector<StateId>& states = graph_.ops[step.op].states;
    const size_t slot = std::ranges::find(states, kParameterState) - states.begin();
    std::memcpy(Address(segment, step.operands[slot]), Address(segment, step.src), static_cast<size_t>(step.src.bytes));
  }
  // One thread only: this runs beside the compute lane, which has the cores.
  bound_[swept_].calls[index]->Run(*machine_.kernels, {.threads = 1});
}

}  // namespace angel_ptm
