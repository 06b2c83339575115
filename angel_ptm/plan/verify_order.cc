// Happens-before by vector clocks (Mattern 1989) over lanes: a step is behind everything its lane did before and
// everything it waits for. Conflicting accesses, of any rank, must be ordered as they are issued.
#include <algorithm>
#include <array>
#include <vector>

#include "absl/container/flat_hash_map.h"
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

// Who touched a range of bytes last, in places that are the same on all ranks.
struct LastUse {
  Stamp writer;
  std::array<Stamp, kLaneCount> readers;  // since the writer, the latest of each lane
};

// Who touched a vector in places in own slices since it was last written as it lies: the latest of each lane.
struct OwnUse {
  int32_t region = kNone;
  std::array<Stamp, kLaneCount> writers, readers;
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
    conflict_ = {};
    if (access.place.own) {
      AddOwn(access, self, clock);
    } else {
      AddFixed(access, self, clock);
    }
    return conflict_.step == kNone ? nullptr : &conflict_;
  }

  void Behind(const Stamp& other, const Stamp& self, const Clock& clock) {
    if (conflict_.step == kNone && other.step != self.step && !other.FinishedBefore(clock)) conflict_ = other;
  }
  void Behind(const std::array<Stamp, kLaneCount>& others, const Stamp& self, const Clock& clock) {
    for (const Stamp& other : others) Behind(other, self, clock);
  }

  // Bytes that are the same on all ranks: on some rank any of them may be in the own slice.
  void AddFixed(const MemoryAccess& access, const Stamp& self, const Clock& clock) {
    const MemoryRange& range = subject_.segment.regions[access.place.region].range;
    const int tier = static_cast<int>(range.tier);
    const int64_t begin = range.offset + access.place.begin, end = begin + access.place.bytes;
    bool own_used = false;
    own_uses_[tier].ForEach(begin, end, [&](int64_t, int64_t, const std::vector<OwnUse>* uses) {
      for (size_t i = 0; uses != nullptr && i < uses->size(); ++i) {
        own_used = true;
        Behind((*uses)[i].writers, self, clock);
        if (access.writes) Behind((*uses)[i].readers, self, clock);
      }
      return true;
    });
    Touch(uses_[tier], {begin, end, access.writes}, self, clock);
    if (access.writes && own_used) own_uses_[tier].Erase(begin, end);
  }

  // A part of the own slice: anywhere in the vector for all but the other parts of the same vector's own slice.
  void AddOwn(const MemoryAccess& access, const Stamp& self, const Clock& clock) {
    const Place& place = access.place;
    const MemoryRange& range = subject_.segment.regions[place.region].range;
    const int tier = static_cast<int>(range.tier);
    const int64_t begin = range.offset, end = begin + range.bytes;
    uses_[tier].ForEach(begin, end, [&](int64_t, int64_t, const LastUse* use) {
      if (use == nullptr) return true;
      Behind(use->writer, self, clock);
      if (access.writes) Behind(use->readers, self, clock);
      return true;
    });
    own_uses_[tier].Update(begin, end, [&](std::vector<OwnUse>& uses) {
      OwnUse* mine = nullptr;
      for (OwnUse& use : uses) {
        if (use.region == place.region) {
          mine = &use;
          continue;
        }
        Behind(use.writers, self, clock);
        if (access.writes) Behind(use.readers, self, clock);
      }
      if (mine == nullptr) mine = &uses.emplace_back(OwnUse{.region = place.region});
      (access.writes ? mine->writers : mine->readers)[self.lane] = self;
    });
    Touch(slices_[place.region], {place.begin, place.begin + place.bytes, access.writes}, self, clock);
  }

  struct Bytes {
    int64_t begin, end;
    bool written;
  };
  void Touch(IntervalMap<LastUse>& uses, const Bytes& bytes, const Stamp& self, const Clock& clock) {
    uses.Update(bytes.begin, bytes.end, [&](LastUse& use) {
      Behind(use.writer, self, clock);
      if (bytes.written) {
        Behind(use.readers, self, clock);
      } else {
        use.readers[self.lane] = self;
      }
    });
    if (bytes.written) uses.Assign(bytes.begin, bytes.end, {.writer = self});
  }

  // Norm and updates share the step's scalars, which have no address.
  absl::Status OrderNorm(const Step& step, const Stamp& self, const Clock& clock) {
    if (step.kind == StepKind::kNorm) norm_ = self;
    // The scalars of a sweep are its job's.
    const bool decided = step.kind == StepKind::kUpdate || step.kind == StepKind::kDeliver;
    if (decided && subject_.segment.sweeps == kNone && !norm_.FinishedBefore(clock)) {
      return subject_.StepError(self.step, "does not wait for the norm of step ", norm_.step);
    }
    return absl::OkStatus();
  }

  const Subject& subject_;
  std::array<std::vector<Clock>, kLaneCount> done_;    // by lane and number - 1: what that step's end implies
  std::array<IntervalMap<LastUse>, kTierCount> uses_;  // by address
  std::array<IntervalMap<std::vector<OwnUse>>, kTierCount> own_uses_;  // by address: of all of the vector
  absl::flat_hash_map<int32_t, IntervalMap<LastUse>> slices_;          // by region and byte of the own slice
  Stamp conflict_, norm_;
};

}  // namespace

absl::Status CheckOrder(const Subject& subject) { return OrderCheck(subject).Run(); }

}  // namespace angel_ptm::verify
