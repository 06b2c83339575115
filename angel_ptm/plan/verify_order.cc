// Happens-before by vector clocks (Mattern 1989) over lanes: a step happens after all earlier steps of its lane and
// after every step it waits for. Conflicting accesses on any rank must be ordered as they are issued.
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

// The last uses of a range of bytes, by places with the same address on all ranks.
struct LastUse {
  Stamp writer;
  std::array<Stamp, kLaneCount> readers;  // since the writer, the latest of each lane
};

// The latest uses, by lane, of a vector through places in the own slice, since it was last written by address.
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

  // Records the access. Returns an earlier conflicting step that is not ordered before it, or null.
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

  // An access to the same bytes on all ranks. Any of them may belong to the own slice on some rank.
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

  // An access to a part of the own slice. It may lie anywhere in the vector, except relative to other parts of the own
  // slice of the same vector.
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

  // The norm and the updates share the step's scalars, which have no address.
  absl::Status OrderNorm(const Step& step, const Stamp& self, const Clock& clock) {
    if (step.kind == StepKind::kNorm) norm_ = self;
    // A sweep uses the scalars of its job.
    const bool decided = step.kind == StepKind::kUpdate || step.kind == StepKind::kDeliver;
    if (decided && subject_.segment.sweeps == kNone && !norm_.FinishedBefore(clock)) {
      return subject_.StepError(self.step, "does not wait for the norm of step ", norm_.step);
    }
    return absl::OkStatus();
  }

  const Subject& subject_;
  std::array<std::vector<Clock>, kLaneCount> done_;    // by lane and number - 1: what has finished when it has
  std::array<IntervalMap<LastUse>, kTierCount> uses_;  // by address
  std::array<IntervalMap<std::vector<OwnUse>>, kTierCount> own_uses_;  // by address, whole vectors
  absl::flat_hash_map<int32_t, IntervalMap<LastUse>> slices_;          // by region and byte of the own slice
  Stamp conflict_, norm_;
};

}  // namespace

absl::Status CheckOrder(const Subject& subject) { return OrderCheck(subject).Run(); }

}  // namespace angel_ptm::verify
