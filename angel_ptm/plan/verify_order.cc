// Happens-before by vector clocks (Mattern 1989) over lanes: a step is behind everything its lane did before and
// everything it waits for. Conflicting accesses must be ordered as they are issued.
#include <algorithm>
#include <array>

#include "angel_ptm/plan/interval_map.h"
#include "angel_ptm/plan/verify_internal.h"

namespace angel_ptm::verify {
namespace {

using Clock = std::array<int32_t, kLaneCount>;  // steps known to have finished, by lane

// A step as the clocks see it: the `number`-th (1-based) of its lane.
struct Stamp {
  int lane = kNone;
  int32_t number = 0, step = kNone;

  bool FinishedBefore(const Clock& clock) const { return lane == kNone || clock[lane] >= number; }
};

// Who touched a range of bytes last.
struct LastUse {
  Stamp writer;
  std::array<Stamp, kLaneCount> readers;  // since the writer, the latest of each lane
};

class OrderCheck {
 public:
  explicit OrderCheck(const Subject& subject) : subject_(subject) {}

  absl::Status Run() {
    for (int32_t i = 0; i < static_cast<int32_t>(subject_.segment.steps.size()); ++i) RETURN_IF_ERROR(Add(i));
    return absl::OkStatus();
  }

 private:
  absl::Status Add(int32_t index) {
    const Step& step = subject_.segment.steps[index];
    const int lane = static_cast<int>(step.lane);
    Clock clock = done_[lane].empty() ? Clock{} : done_[lane].back();
    for (int l = 0; l < kLaneCount; ++l) {
      if (step.waits[l] < 0 || step.waits[l] > static_cast<int32_t>(done_[l].size())) {
        return subject_.StepError(index, "waits for step ", step.waits[l], " of lane ", Name(static_cast<Lane>(l)),
                                  ", of which ", done_[l].size(), " are issued before it");
      }
      if (step.waits[l] == 0) continue;
      const Clock& other = done_[l][step.waits[l] - 1];
      for (int m = 0; m < kLaneCount; ++m) clock[m] = std::max(clock[m], other[m]);
    }
    const Stamp self{lane, static_cast<int32_t>(done_[lane].size()) + 1, index};
    for (const MemoryAccess& access : AccessesOf(subject_.graph, step)) {
      if (const Stamp* other = Conflict(access, self, clock)) {
        return subject_.StepError(index, "nothing orders its access to region ",
                                  subject_.segment.regions[access.place.region].label, " behind step ", other->step,
                                  " (", subject_.StepText(subject_.segment.steps[other->step]), ")");
      }
    }
    RETURN_IF_ERROR(OrderNorm(step, self, clock));
    clock[lane] = self.number;
    done_[lane].push_back(clock);
    return absl::OkStatus();
  }

  // The earlier step this access is not ordered behind, or null. Records the access.
  const Stamp* Conflict(const MemoryAccess& access, const Stamp& self, const Clock& clock) {
    const MemoryRange& range = subject_.segment.regions[access.place.region].range;
    IntervalMap<LastUse>& uses = uses_[static_cast<int>(range.tier)];
    const int64_t begin = range.offset + access.place.begin, end = begin + access.place.bytes;
    bool found = false;
    const auto check = [&](const Stamp& other) {
      if (found || other.step == self.step || other.FinishedBefore(clock)) return;
      conflict_ = other;
      found = true;
    };
    uses.Update(begin, end, [&](LastUse& use) {
      check(use.writer);
      if (!access.writes) {
        use.readers[self.lane] = self;
        return;
      }
      for (const Stamp& reader : use.readers) check(reader);
    });
    if (access.writes) uses.Assign(begin, end, {.writer = self});
    return found ? &conflict_ : nullptr;
  }

  // Norm and updates share the step's scalars, which have no address.
  absl::Status OrderNorm(const Step& step, const Stamp& self, const Clock& clock) {
    if (step.kind == StepKind::kNorm) norm_ = self;
    if (step.kind == StepKind::kUpdate && !norm_.FinishedBefore(clock)) {
      return subject_.StepError(self.step, "does not wait for the norm of step ", norm_.step);
    }
    return absl::OkStatus();
  }

  const Subject& subject_;
  std::array<std::vector<Clock>, kLaneCount> done_;  // by lane and number - 1: what that step's end implies
  std::array<IntervalMap<LastUse>, kTierCount> uses_;
  Stamp conflict_, norm_;
};

}  // namespace

absl::Status CheckOrder(const Subject& subject) { return OrderCheck(subject).Run(); }

}  // namespace angel_ptm::verify
