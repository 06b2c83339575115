#include "angel_ptm/plan/planner.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/model/lock_free.h"
#include "angel_ptm/plan/homes.h"
#include "angel_ptm/plan/passes.h"
#include "angel_ptm/plan/segment_builder.h"

namespace angel_ptm {
namespace {

constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max() / 4;

int64_t BudgetOr(int64_t bytes) { return bytes == 0 ? kUnlimited : bytes; }

TierPeak PeakOf(const Segment& segment, TierKind tier) {
  const std::vector<int64_t> live = LiveBytes(segment, tier);
  const auto fullest = static_cast<int32_t>(std::max_element(live.begin(), live.end()) - live.begin());
  TierPeak peak;
  for (const Region& region : segment.regions) {
    if (region.range.tier != tier || (!region.permanent && region.first_step == kNone)) continue;
    peak.bytes = std::max(peak.bytes, region.range.offset + region.range.bytes);
    if (!region.permanent && (region.first_step > fullest || region.last_step < fullest)) continue;
    peak.by_class[static_cast<int>(region.memory_class)] += region.range.bytes;
    peak.live_bytes += region.range.bytes;
  }
  return peak;
}

// One way to plan. Candidates are chosen by arithmetic on live bytes. Only placing a candidate's buffers shows whether
// the holes between them make it too large.
struct Candidate {
  HomeCounts homes;
  bool may_offload = false;
  int64_t live_bytes_max = 0;  // of transient buffers on the device, at any step
  // Whether pages from the file and, for updates, from the device arrive on the host early, and pages on their way to
  // the file linger there, as far as the host has room.
  bool host_early = true;
  // Limit on live transient buffers on the host at any step; activations in excess of it rest in the file. A limit
  // below the possible minimum means that minimum.
  int64_t host_live_bytes_max = kUnlimited;
};

// The share of Candidate::live_bytes_max, in percent, up to which buffers arrive early or linger. A smaller share
// leaves room for holes where it matters, because then nothing arrives early at the fullest steps.
constexpr int64_t kMuchEarly = 100, kLessEarly = 80, kNothingEarly = 0;

class Planner {
 public:
  Planner(const Graph& graph, const BackendFacts& facts, const PlanOptions& options, const Layout* layout)
      : graph_(graph), facts_(facts), options_(options), given_layout_(layout) {}

  absl::StatusOr<Plan> Make(int64_t* least_device_bytes);

 private:
  // The device memory that a tightest candidate needs, and the parameters that reproduce the candidate.
  struct Tightest {
    HomeCounts homes;
    int64_t device_bytes = 0;
    int64_t live_bytes_max = 0;
  };

  bool HasUpdate() const { return graph_.update_begin < static_cast<OpId>(graph_.ops.size()); }
  size_t AllHomes() const { return graph_.units().size() * graph_.states().size(); }
  bool LockFree() const { return static_cast<bool>(FindLockFreeRows(graph_.states())); }
  // Lock-free update: the states that micro-steps use, parameters and gradients, come first in caching order. They
  // never rest in the file, whose lanes belong to the sweeps. States that only updates use never rest on the device,
  // which would have to wait for the updates.
  size_t HomesOfMicroSteps() const {
    const auto order = CachingOrder(graph_, LayoutWith({}));
    return std::count_if(order.begin(), order.end(), [](const auto& home) { return home.second <= kGradientState; });
  }
  size_t LeastInMemory() const { return LockFree() ? HomesOfMicroSteps() : 0; }
  int64_t Budget() const { return BudgetOr(options_.device_bytes); }
  int64_t HostBudget() const { return BudgetOr(options_.host_bytes); }
  Layout LayoutWith(const HomeCounts& homes) const {
    return given_layout_ != nullptr ? *given_layout_ : MakeLayout(graph_, options_, homes);
  }
  // The end of homes and fixed places, where transient buffers begin.
  int64_t Base(const Layout& layout, std::vector<MemoryRange>& fixed) const {
    return PlaceFixed(graph_, layout.home_bytes[static_cast<int>(TierKind::kDevice)], fixed);
  }
  int64_t Base(const Layout& layout) const {
    std::vector<MemoryRange> fixed;
    return Base(layout, fixed);
  }
  Segment Natural(bool update, const Layout& layout) const {
    std::vector<MemoryRange> fixed;
    Base(layout, fixed);
    return update ? BuildUpdate(graph_, layout, fixed) : BuildMicroStep(graph_, layout, fixed, facts_);
  }
  // The bytes that may be live in the budget above `base`, if for every `parts` bytes of them one byte is lost to holes
  // (0: none is lost).
  int64_t LiveBytesMax(int64_t base, int parts) const {
    return parts == 0 ? Budget() - base : (Budget() - base) / (parts + 1) * parts;
  }

  bool FitsByArithmetic(bool update, size_t on_device, int parts) const;
  std::optional<size_t> MostHomes(int parts) const;
  Candidate CandidateFor(int parts) const;
  Tightest FindTightest(const HomeCounts& homes) const;
  bool PackDevice(const Layout& layout, Segment& segment) const;
  void SendToFile(const Candidate& candidate, Segment& segment) const;
  bool PlaceSegment(const Candidate& candidate, const Layout& layout, int64_t early_percent, Segment& segment) const;
  bool PlaceJoined(const Candidate& candidate, const Layout& layout, int64_t early_percent, Segment& joined) const;
  std::optional<Plan> PlaceOnDevice(const Candidate& candidate, int64_t early_percent) const;
  std::optional<Plan> Place(const Candidate& candidate, int64_t early_percent);
  Plan FillHost(Candidate candidate, int64_t early_percent, Plan tightest) const;
  Plan FillHostWithActivations(Candidate candidate, int64_t early_percent, Plan tightest) const;
  std::optional<Plan> FirstThatFits(const Candidate& candidate, std::initializer_list<int64_t> early_percents);
  size_t MostOnHost(size_t on_device, int64_t bytes) const;
  absl::Status Refusal(const Tightest& tightest) const;
  absl::Status HostRefusal() const;
  std::string WhyTooSmall(const Tightest& tightest) const;

  const Graph& graph_;
  const BackendFacts& facts_;
  const PlanOptions& options_;
  const Layout* const given_layout_;
  int64_t least_host_bytes_ = 0;  // of candidates refused for lack of host memory alone; 0: none
};

bool Planner::FitsByArithmetic(bool update, size_t on_device, int parts) const {
  const Layout layout = LayoutWith({on_device});
  const int64_t most = LiveBytesMax(Base(layout), parts);
  return most >= 0 && MostLiveBytes(Natural(update, layout), TierKind::kDevice) <= most;
}

// How many homes, in caching order, fit on the device while all activations stay. A home on the device takes at least
// as many bytes there as the fetched copy of a home elsewhere, so the need grows with the number of homes.
std::optional<size_t> Planner::MostHomes(int parts) const {
  size_t most = LockFree() ? HomesOfMicroSteps() : AllHomes();
  for (const bool update : {false, true}) {
    if (update && !HasUpdate()) break;
    if (FitsByArithmetic(update, most, parts)) continue;
    if (!FitsByArithmetic(update, 0, parts)) return std::nullopt;
    size_t fits = 0;
    while (most - fits > 1) {
      const size_t middle = fits + (most - fits) / 2;
      (FitsByArithmetic(update, middle, parts) ? fits : most) = middle;
    }
    most = fits;
  }
  return most;
}

// As much state on the device as fits. Activations move only if they do not fit even without any state on the device.
Candidate Planner::CandidateFor(int parts) const {
  Candidate candidate;
  const std::optional<size_t> on_device = given_layout_ != nullptr ? std::nullopt : MostHomes(parts);
  candidate.homes.on_device = on_device.value_or(0);
  candidate.may_offload = !on_device.has_value();
  candidate.live_bytes_max = LiveBytesMax(Base(LayoutWith(candidate.homes)), parts);
  return candidate;
}

// The candidate that needs the least device memory: no state rests there, activations leave as soon as a byte is short,
// and nothing is early. If its placement has holes, a larger limit on live bytes can give a smaller result.
Planner::Tightest Planner::FindTightest(const HomeCounts& homes) const {
  const Layout layout = LayoutWith(homes);
  const int64_t base = Base(layout);
  const Segment micro_step = Natural(/*update=*/false, layout);
  Segment update = HasUpdate() ? Natural(/*update=*/true, layout) : Segment();
  // No buffer of an update can leave.
  const int64_t least_live =
      std::max(LeastLiveBytes(graph_, micro_step, TierKind::kDevice), MostLiveBytes(update, TierKind::kDevice));
  const int64_t update_end = PackRegions(update, TierKind::kDevice, base, base + least_live);
  Tightest tightest{.homes = homes};
  for (const int64_t percent : {0, 1, 2, 4, 8}) {
    const int64_t live_bytes_max = least_live + least_live / 100 * percent;
    Segment segment = micro_step;
    APTM_CHECK(OffloadActivations(graph_, segment, TierKind::kDevice, live_bytes_max, options_.page_bytes).ok());
    const int64_t end = std::max(update_end, PackRegions(segment, TierKind::kDevice, base, base + least_live));
    if (percent == 0 || end < tightest.device_bytes) tightest = {homes, end, live_bytes_max};
    if (tightest.device_bytes <= base + least_live + least_live / 100 * (percent + 1)) break;
  }
  tightest.device_bytes = (tightest.device_bytes + 4095) / 4096 * 4096;
  return tightest;
}

// False if the segment exceeds the budget.
bool Planner::PackDevice(const Layout& layout, Segment& segment) const {
  return PackRegions(segment, TierKind::kDevice, Base(layout), Budget()) <= Budget();
}

// Moves to the file the activations that the host has no room for.
void Planner::SendToFile(const Candidate& candidate, Segment& segment) const {
  if (MostLiveBytes(segment, TierKind::kHost) <= candidate.host_live_bytes_max) return;
  const int64_t least = LeastLiveBytes(graph_, segment, TierKind::kHost);
  const int64_t host_bytes = std::max(candidate.host_live_bytes_max, least);
  APTM_CHECK(OffloadActivations(graph_, segment, TierKind::kHost, host_bytes, options_.page_bytes).ok());
}

// Schedules a segment that is in natural order, and assigns its addresses and waits. False if it exceeds the device's
// budget.
bool Planner::PlaceSegment(const Candidate& candidate, const Layout& layout, int64_t early_percent,
                           Segment& segment) const {
  if (MostLiveBytes(segment, TierKind::kDevice) > candidate.live_bytes_max) {
    if (!candidate.may_offload) return false;
    const absl::Status fits =
        OffloadActivations(graph_, segment, TierKind::kDevice, candidate.live_bytes_max, options_.page_bytes);
    if (!fits.ok()) return false;
  }
  // If nothing is early, the packing of the device must not depend on what moves on to the file, or the least budget
  // would not be exact.
  const bool early = early_percent > kNothingEarly || candidate.host_early;
  if (!early && !PackDevice(layout, segment)) return false;
  SendToFile(candidate, segment);
  const int64_t host_base = layout.home_bytes[static_cast<int>(TierKind::kHost)];
  const int64_t file_base = layout.home_bytes[static_cast<int>(TierKind::kFile)];
  const int64_t in_file = MostLiveBytes(segment, TierKind::kFile);
  const bool from_file = candidate.host_early && file_base + in_file > 0;
  const bool to_host = from_file || (candidate.host_early && segment.updates);
  const std::array<std::pair<TierKind, int64_t>, 2> early_bytes_max = {{
      {TierKind::kHost, to_host ? (HostBudget() - host_base) / 16 * 15 : 0},  // the rest for holes
      {TierKind::kDevice, candidate.live_bytes_max / 100 * early_percent},
  }};
  const int prefetch_steps = std::min(options_.prefetch_steps, kPrefetchStepsMax);
  for (const auto& [tier, bytes] : early_bytes_max) {
    if (bytes > 0) StartEarly(graph_, segment, tier, bytes, prefetch_steps);
  }
  for (const auto& [tier, bytes] : early_bytes_max) {
    if (bytes > 0) LeaveLate(graph_, segment, tier, bytes, prefetch_steps);
  }
  if (early && !PackDevice(layout, segment)) return false;
  // Unless pages come early from the file, the limit must not depend on the budget, because such plans decide the least
  // one.
  const int64_t host_limit = from_file ? HostBudget() : host_base + MostLiveBytes(segment, TierKind::kHost);
  PackRegions(segment, TierKind::kHost, host_base, host_limit);
  PackRegions(segment, TierKind::kFile, file_base, file_base + in_file);
  OrderSteps(graph_, segment);
  return true;
}

// Places the update and the next micro-step, joined in natural order. The joined segment never needs more live bytes
// than the two apart, but may have more holes; then less is prefetched than in the separate segments. False if the two
// must be played separately.
bool Planner::PlaceJoined(const Candidate& candidate, const Layout& layout, int64_t early_percent,
                          Segment& joined) const {
  for (const int64_t percent : {kMuchEarly, kLessEarly, kNothingEarly}) {
    if (percent > early_percent) continue;
    if (percent < early_percent) joined = Join(Natural(/*update=*/true, layout), Natural(/*update=*/false, layout));
    if (!PlaceSegment(candidate, layout, percent, joined)) continue;
    if (PeakOf(joined, TierKind::kHost).bytes <= HostBudget()) return true;
  }
  return false;
}

// Plans within the device's budget, regardless of the host's.
std::optional<Plan> Planner::PlaceOnDevice(const Candidate& candidate, int64_t early_percent) const {
  if (candidate.live_bytes_max < 0) return std::nullopt;
  Plan plan;
  plan.layout = LayoutWith(candidate.homes);
  Base(plan.layout, plan.fixed);
  plan.segments.push_back(Natural(/*update=*/false, plan.layout));
  if (HasUpdate()) plan.segments.push_back(Natural(/*update=*/true, plan.layout));
  std::optional<Segment> joined;
  if (HasUpdate() && !LockFree()) joined = Join(plan.segments[kUpdateSegment], plan.segments[kMicroStepSegment]);
  for (Segment& segment : plan.segments) {
    if (!PlaceSegment(candidate, plan.layout, early_percent, segment)) return std::nullopt;
  }
  if (joined.has_value() && PlaceJoined(candidate, plan.layout, early_percent, *joined)) {
    plan.segments.push_back(*std::move(joined));
  }
  plan.programs = MakePrograms(plan.segments);
  for (int t = 0; t < kTierCount; ++t) {
    plan.arena_bytes[t] = plan.layout.home_bytes[t];
    for (const Segment& segment : plan.segments) {
      const TierPeak peak = PeakOf(segment, static_cast<TierKind>(t));
      if (peak.live_bytes > plan.peaks[t].live_bytes) plan.peaks[t] = peak;
      plan.arena_bytes[t] = std::max(plan.arena_bytes[t], peak.bytes);
    }
    plan.peaks[t].bytes = plan.arena_bytes[t];
  }
  if (HasUpdate() && LockFree()) {
    AddSweeps(graph_, candidate.host_early ? HostBudget() : 0, std::min(options_.prefetch_steps, kPrefetchStepsMax),
              plan);
  }
  return plan;
}

constexpr int kFileIndex = static_cast<int>(TierKind::kFile);
int64_t HostBytes(const Plan& plan) { return plan.arena_bytes[static_cast<int>(TierKind::kHost)]; }
int64_t FileBytes(const Plan& plan) { return plan.arena_bytes[kFileIndex]; }

// The largest number of homes, in caching order, on the device or the host such that those on the host take at most
// `bytes`.
size_t Planner::MostOnHost(size_t on_device, int64_t bytes) const {
  size_t most = on_device, too_many = AllHomes() + 1;
  while (too_many - most > 1) {
    const size_t middle = most + (too_many - most) / 2;
    const Layout layout = LayoutWith({on_device, middle});
    (layout.home_bytes[static_cast<int>(TierKind::kHost)] <= bytes ? most : too_many) = middle;
  }
  return most;
}

// What the host has no room for rests in the file, and as little as possible: state first, then activations. Whether a
// host budget works is decided by three plans in which nothing arrives early on the host: one with no home in the file;
// one with no home on the host; and the latter with as many activations in the file as possible. So the least budget is
// exact.
std::optional<Plan> Planner::Place(const Candidate& candidate, int64_t early_percent) {
  std::optional<Plan> plan = PlaceOnDevice(candidate, early_percent);
  if (!plan.has_value() || HostBytes(*plan) <= HostBudget()) return plan;
  Candidate nothing_early = candidate;
  nothing_early.host_early = false;
  if (candidate.host_early) plan = PlaceOnDevice(nothing_early, early_percent);
  if (!plan.has_value() || HostBytes(*plan) <= HostBudget()) return plan;
  int64_t least = HostBytes(*plan);
  Candidate with_file = candidate;
  with_file.homes.on_host_or_device = std::max(candidate.homes.on_device, LeastInMemory());
  with_file.host_early = false;
  std::optional<Plan> tightest;
  if (options_.file_bytes > 0) tightest = PlaceOnDevice(with_file, early_percent);
  if (tightest.has_value()) least = std::min(least, HostBytes(*tightest));
  // With a lock-free update the file lanes belong to the sweeps.
  if (least > HostBudget() && options_.file_bytes > 0 && !LockFree()) {
    with_file.host_live_bytes_max = 0;
    tightest = PlaceOnDevice(with_file, early_percent);
    if (tightest.has_value()) least = std::min(least, HostBytes(*tightest));
    if (least <= HostBudget()) return FillHostWithActivations(with_file, early_percent, *std::move(tightest));
  }
  if (least > HostBudget()) {
    if (least_host_bytes_ == 0 || least < least_host_bytes_) least_host_bytes_ = least;
    return std::nullopt;
  }
  if (given_layout_ != nullptr) return tightest;
  with_file.host_early = true;
  return FillHost(with_file, early_percent, *std::move(tightest));
}

// Puts as many homes on the host as leave room for pages in transit and for their early arrival; more if those pages
// leave room unused, or if the file has no room for the other homes. `tightest`: the plan with no homes on the host.
Plan Planner::FillHost(Candidate candidate, int64_t early_percent, Plan tightest) const {
  size_t& homes = candidate.homes.on_host_or_device;
  const auto place = [&](size_t count) {
    homes = std::max(count, LeastInMemory());
    std::optional<Plan> plan = PlaceOnDevice(candidate, early_percent);
    if (plan.has_value() && HostBytes(*plan) > HostBudget()) plan.reset();
    return plan;
  };
  const auto most = [&](int64_t bytes) { return MostOnHost(candidate.homes.on_device, bytes); };
  const int64_t early_bytes =
      std::min(options_.prefetch_steps, kPrefetchStepsMax) * int64_t{4} * options_.page_bytes * graph_.states().size();
  const int64_t room = HostBudget() - HostBytes(tightest);
  std::optional<Plan> best;
  int64_t homes_max = room - std::min(early_bytes, room / 2);
  while (homes_max > options_.page_bytes && !(best = place(most(homes_max)))) homes_max /= 2;
  if (!best.has_value()) best = std::move(tightest);
  // Fill unused room. Holes may make a plan that fits by arithmetic too large.
  const int64_t unused = HostBudget() - HostBytes(*best);
  size_t most_yet = homes;
  for (int64_t more = unused / 16 * 15; more > unused / 8; more /= 2) {
    const size_t count = most(homes_max + more);
    if (count <= most_yet || best->layout.home_bytes[kFileIndex] == 0) break;
    if (more > HostBudget() - HostBytes(*best)) continue;
    std::optional<Plan> plan = place(count);
    if (!plan.has_value() || plan->segments.size() < best->segments.size()) continue;
    best = std::move(plan);
    most_yet = count;
    homes_max += more;
  }
  if (best->layout.home_bytes[kFileIndex] <= options_.file_bytes) return *std::move(best);
  size_t too_few = candidate.homes.on_device, enough = AllHomes();
  while (enough - too_few > 1) {
    const size_t middle = too_few + (enough - too_few) / 2;
    const Layout layout = LayoutWith({candidate.homes.on_device, middle});
    (layout.home_bytes[kFileIndex] <= options_.file_bytes ? enough : too_few) = middle;
  }
  for (const bool early : {true, false}) {
    candidate.host_early = early;
    if (std::optional<Plan> plan = place(enough)) return *std::move(plan);
  }
  // MakePlan will refuse the plan, so return one that needs as little of the file as possible.
  std::optional<Plan> least = place(most(room));
  return least.has_value() ? *std::move(least) : *std::move(best);
}

// Keeps as many activations on the host as leave room for holes and, if possible, for activations that arrive early
// from the file. `tightest`: the plan with as few activations on the host as possible.
Plan Planner::FillHostWithActivations(Candidate candidate, int64_t early_percent, Plan tightest) const {
  const int64_t room = HostBudget() - tightest.layout.home_bytes[static_cast<int>(TierKind::kHost)];
  constexpr std::pair<int64_t, bool> kPartsAndEarly[] = {{28, true}, {24, true}, {16, true}, {28, false}, {31, false}};
  for (const auto& [of_32, early] : kPartsAndEarly) {
    candidate.host_live_bytes_max = room / 32 * of_32;
    candidate.host_early = early;
    std::optional<Plan> plan = PlaceOnDevice(candidate, early_percent);
    if (!plan.has_value() || HostBytes(*plan) > HostBudget()) continue;
    if (plan->segments.size() < tightest.segments.size()) continue;
    if (FileBytes(*plan) <= options_.file_bytes) return *std::move(plan);
    // MakePlan may have to refuse, so keep the plan that needs the least of the file.
    if (FileBytes(*plan) < FileBytes(tightest)) tightest = *std::move(plan);
  }
  return tightest;
}

std::optional<Plan> Planner::FirstThatFits(const Candidate& candidate, std::initializer_list<int64_t> early_percents) {
  for (const int64_t early_percent : early_percents) {
    if (std::optional<Plan> plan = Place(candidate, early_percent)) return plan;
  }
  return std::nullopt;
}

// "homes take ...", "computing x (Op) needs ..." or, if the cause is holes alone, "buffers with the holes ...".
std::string Planner::WhyTooSmall(const Tightest& tightest) const {
  const Layout layout = LayoutWith(tightest.homes);
  const int64_t home_bytes = layout.home_bytes[static_cast<int>(TierKind::kDevice)];
  const int64_t base = Base(layout), left = Budget() - base;
  if (left < 0) {
    return absl::StrCat("homes take ", FormatBytes(home_bytes),
                        " of device memory and inputs, outputs and caches take ", FormatBytes(base - home_bytes));
  }
  for (const bool update : {false, true}) {
    if (update && !HasUpdate()) continue;
    Segment segment = Natural(update, layout);
    const absl::Status fits = OffloadActivations(graph_, segment, TierKind::kDevice, left, options_.page_bytes);
    if (!fits.ok()) return std::string(fits.message());
  }
  return absl::StrCat("buffers with the holes between them need ", FormatBytes(tightest.device_bytes - base),
                      " of device memory at once, ", FormatBytes(left), " are left for them");
}

absl::Status Planner::Refusal(const Tightest& tightest) const {
  const int64_t least = tightest.device_bytes, given = options_.device_bytes;
  return absl::ResourceExhaustedError(absl::StrCat("graph ", graph_.name, " does not fit: memory.device_bytes is ",
                                                   FormatBytes(given), " (", given, "), the least that works is ",
                                                   FormatBytes(least), " (", least, "), ", FormatBytes(least - given),
                                                   " more; ", WhyTooSmall(tightest)));
}

absl::Status Planner::HostRefusal() const {
  const int64_t least = least_host_bytes_, given = HostBudget();
  return absl::ResourceExhaustedError(
      absl::StrCat("graph ", graph_.name, " does not fit: memory.host_bytes is ", FormatBytes(given), " (", given,
                   "), the least that works is ", FormatBytes(least), " (", least, "), ", FormatBytes(least - given),
                   " more; or raise memory.device_bytes",
                   options_.file_bytes > 0 ? "" : ", or give the run a file tier, memory.nvme"));
}

absl::StatusOr<Plan> Planner::Make(int64_t* least_device_bytes) {
  if (given_layout_ == nullptr && FitsByArithmetic(false, AllHomes(), 0) && FitsByArithmetic(true, AllHomes(), 0)) {
    if (LockFree() && HasUpdate()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "graph ", graph_.name, ": the update is lock-free, but all state has room on the device, where there is ",
          "nothing to hide: set optimizer.update=SYNCHRONOUS, or a smaller memory.device_bytes"));
    }
    const HomeCounts homes = {.on_device = AllHomes()};
    std::optional<Plan> plan = Place({homes, false, LiveBytesMax(Base(LayoutWith(homes)), 0)}, kMuchEarly);
    if (plan.has_value()) return *std::move(plan);
  }
  // A budget below the needs of the tightest candidates is refused without trying anything; at every larger one these
  // candidates are the fallback. So whether a budget works does not depend on the holes of other candidates.
  RETURN_IF_ERROR(CheckPageCount(graph_, LayoutWith({})));
  std::vector<Tightest> tightest = {FindTightest({})};
  if (options_.file_bytes > 0) tightest.push_back(FindTightest({.on_host_or_device = LeastInMemory()}));
  const auto needs_less = [](const Tightest& a, const Tightest& b) { return a.device_bytes < b.device_bytes; };
  const Tightest& largest = *std::max_element(tightest.begin(), tightest.end(), needs_less);
  if (Budget() < largest.device_bytes) {
    if (least_device_bytes != nullptr) *least_device_bytes = largest.device_bytes;
    return Refusal(largest);
  }
  std::optional<Plan> plan = FirstThatFits(CandidateFor(32), {kMuchEarly, kLessEarly});
  if (!plan.has_value()) plan = FirstThatFits(CandidateFor(8), {kLessEarly, kNothingEarly});
  for (size_t i = 0; i < tightest.size() && !plan.has_value(); ++i) {
    plan = FirstThatFits({tightest[i].homes, true, tightest[i].live_bytes_max, /*host_early=*/false},
                         {kLessEarly, kNothingEarly});
  }
  if (!plan.has_value() && least_host_bytes_ > 0) return HostRefusal();
  APTM_CHECK(plan.has_value(), "graph ", graph_.name, " in ", Budget(), " bytes");
  return *std::move(plan);
}

}  // namespace

absl::StatusOr<Plan> MakePlan(const Graph& graph, const BackendFacts& facts, const PlanOptions& options,
                              const Layout* layout, int64_t* least_device_bytes) {
  APTM_CHECK(facts.op_workspace_bytes.size() == graph.ops.size() &&
             facts.reduce_scratch_bytes.size() == graph.units().size());
  APTM_CHECK(layout == nullptr || layout->states == graph.states(), "graph ", graph.name,
             " has other states than the layout");
  ASSIGN_OR_RETURN(Plan plan, Planner(graph, facts, options, layout).Make(least_device_bytes));
  if (const int64_t file = FileBytes(plan); file > options.file_bytes) {
    const char* const what = file > plan.layout.home_bytes[kFileIndex] ? "state and activations" : "state";
    return absl::ResourceExhaustedError(absl::StrCat(
        "graph ", graph.name, " does not fit: ", FormatBytes(file), " (", file, ") of ", what,
        " rest in the file tier, memory.nvme.bytes is ", FormatBytes(options.file_bytes), " (", options.file_bytes,
        "): raise it by ", FormatBytes(file - options.file_bytes), " or raise memory.host_bytes"));
  }
  return plan;
}

}  // namespace angel_ptm
