#include "angel_ptm/train/report/run_sheet.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/json.h"

namespace angel_ptm {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kVersion = 1;
constexpr size_t kPointsMax = 300;

using ByClass = std::array<int64_t, kMemoryClassCount>;

int64_t Sum(const ByClass& bytes) {
  int64_t sum = 0;
  for (const int64_t b : bytes) sum += b;
  return sum;
}

// Live bytes at every step.
std::vector<ByClass> LiveByClass(const Segment& segment, TierKind tier) {
  std::vector<ByClass> live(segment.steps.size() + 1);  // first holds the changes at each step
  const auto last = static_cast<int32_t>(segment.steps.size());
  for (const Region& region : segment.regions) {
    if (region.range.tier != tier || (!region.permanent && region.first_step == kNone)) continue;
    const auto c = static_cast<size_t>(region.memory_class);
    live[region.permanent ? 0 : region.first_step][c] += region.range.bytes;
    live[region.permanent ? last : region.last_step + 1][c] -= region.range.bytes;
  }
  for (size_t i = 1; i < live.size(); ++i) {
    for (size_t c = 0; c < live[i].size(); ++c) live[i][c] += live[i - 1][c];
  }
  live.pop_back();
  return live;
}

TierTimeline TimelineOf(const Plan& plan, TierKind tier) {
  TierTimeline timeline{.tier = Name(tier), .arena_bytes = plan.arena_bytes[static_cast<int>(tier)]};
  std::vector<ByClass> live = LiveByClass(plan.segments[kMicroStepSegment], tier);
  timeline.update_begin = static_cast<int64_t>(live.size());
  if (plan.segments.size() > kUpdateSegment) {
    const std::vector<ByClass> update = LiveByClass(plan.segments[kUpdateSegment], tier);
    live.insert(live.end(), update.begin(), update.end());
  }
  const size_t stretch = (live.size() + kPointsMax - 1) / kPointsMax;
  for (size_t begin = 0; begin < live.size(); begin += stretch) {
    const auto end = live.begin() + static_cast<int64_t>(std::min(live.size(), begin + stretch));
    const auto fullest = std::max_element(live.begin() + static_cast<int64_t>(begin), end,
                                          [](const ByClass& a, const ByClass& b) { return Sum(a) < Sum(b); });
    timeline.steps.push_back(fullest - live.begin());
  }
  for (int c = 0; c < kMemoryClassCount; ++c) {
    std::vector<int64_t> bytes;
    for (const int64_t step : timeline.steps) bytes.push_back(live[step][c]);
    if (std::all_of(bytes.begin(), bytes.end(), [](int64_t b) { return b == 0; })) continue;
    timeline.classes.emplace_back(Name(static_cast<MemoryClass>(c)), std::move(bytes));
  }
  return timeline;
}

// Reads without exceptions: a value of the wrong type is an error.
class Reader {
 public:
  std::string Text(const Json& object, const char* key) {
    const Json* value = Find(object, key, &Json::is_string);
    return value == nullptr ? "" : value->get<std::string>();
  }
  int64_t Integer(const Json& object, const char* key) {
    const Json* value = Find(object, key, &Json::is_number_integer);
    return value == nullptr ? 0 : value->get<int64_t>();
  }
  std::vector<int64_t> Integers(const Json& object, const char* key) {
    std::vector<int64_t> numbers;
    for (const Json& value : List(object, key)) {
      if (!value.is_number_integer()) {
        wrong_ = absl::StrCat(key, " holds something else than integers");
        return {};
      }
      numbers.push_back(value.get<int64_t>());
    }
    return numbers;
  }
  const Json& List(const Json& object, const char* key) {
    const Json* value = Find(object, key, &Json::is_array);
    return value == nullptr ? empty_ : *value;
  }
  void Wrong(std::string what) { wrong_ = std::move(what); }
  const std::string& wrong() const { return wrong_; }

 private:
  const Json* Find(const Json& object, const char* key, bool (Json::*is)() const noexcept) {
    const auto found = object.is_object() ? object.find(key) : object.end();
    if (found != object.end() && ((*found).*is)()) return &*found;
    wrong_ = absl::StrCat("no proper ", key);
    return nullptr;
  }

  const Json empty_ = Json::array();
  std::string wrong_;
};

}  // namespace

std::vector<TierTimeline> MemoryOverStep(const Plan& plan) {
  std::vector<TierTimeline> tiers;
  for (const TierKind tier : kAllTiers) {
    TierTimeline timeline = TimelineOf(plan, tier);
    if (!timeline.classes.empty()) tiers.push_back(std::move(timeline));
  }
  return tiers;
}

std::string ToJson(const RunSheet& sheet) {
  Json memory = Json::array();
  for (const TierTimeline& tier : sheet.memory) {
    Json classes = Json::array();
    for (const auto& [name, bytes] : tier.classes) classes.push_back({{"class", name}, {"bytes", bytes}});
    memory.push_back({{"tier", tier.tier},
                      {"arena_bytes", tier.arena_bytes},
                      {"update_begin", tier.update_begin},
                      {"plan_steps", tier.steps},
                      {"classes", classes}});
  }
  const Json json = {{"version", kVersion},
                     {"model", sheet.model},
                     {"layout", sheet.layout},
                     {"steps", sheet.steps},
                     {"memory", memory}};
  return json.dump() + "\n";
}

absl::StatusOr<RunSheet> RunSheetFromJson(const std::string& json) {
  const Json object = ParseOrderedJson(json);
  Reader reader;
  if (const int64_t version = reader.Integer(object, "version"); version != kVersion) {
    return absl::InvalidArgumentError(absl::StrCat("has version ", version, ", wanted ", kVersion));
  }
  RunSheet sheet{.model = reader.Text(object, "model"),
                 .layout = reader.Text(object, "layout"),
                 .steps = reader.Integer(object, "steps")};
  for (const Json& tier : reader.List(object, "memory")) {
    TierTimeline timeline{.tier = reader.Text(tier, "tier"),
                          .arena_bytes = reader.Integer(tier, "arena_bytes"),
                          .steps = reader.Integers(tier, "plan_steps"),
                          .update_begin = reader.Integer(tier, "update_begin")};
    for (const Json& of_class : reader.List(tier, "classes")) {
      timeline.classes.emplace_back(reader.Text(of_class, "class"), reader.Integers(of_class, "bytes"));
      if (timeline.classes.back().second.size() != timeline.steps.size()) reader.Wrong("memory that lacks steps");
    }
    sheet.memory.push_back(std::move(timeline));
  }
  if (!reader.wrong().empty()) return absl::InvalidArgumentError("has " + reader.wrong());
  return sheet;
}

}  // namespace angel_ptm
