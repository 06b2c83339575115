#include "angel_ptm/train/report/history.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "angel_ptm/base/json.h"

namespace angel_ptm {
namespace {

using Json = nlohmann::json;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
// A metrics line has about twenty keys; more than this is not from us.
constexpr size_t kCurvesMax = 64;
constexpr size_t kRangesMax = 8;
// As many columns of a heat map as can still be told apart.
constexpr size_t kExpertPointsMax = 200;
constexpr int64_t kStepMax = int64_t{1} << 52;

// A line's object and step, or nothing.
std::optional<std::pair<Json, int64_t>> ParseStep(std::string_view line) {
  Json object = ParseJson(line);
  if (!object.is_object()) return std::nullopt;
  const auto step = object.find("step");
  if (step == object.end() || !step->is_number_integer()) return std::nullopt;
  const int64_t number = step->get<int64_t>();
  if (number < 0 || number > kStepMax) return std::nullopt;
  return std::pair(std::move(object), number);
}

// JSON has no NaNs: they are strings (metrics.h).
std::optional<double> NumberOf(const Json& value) {
  if (value.is_number()) return value.get<double>();
  if (!value.is_string()) return std::nullopt;
  const std::string& text = value.get_ref<const std::string&>();
  if (text == "nan" || text == "-nan") return kNan;
  if (text == "inf") return std::numeric_limits<double>::infinity();
  if (text == "-inf") return -std::numeric_limits<double>::infinity();
  return std::nullopt;
}

}  // namespace

double CurvePoint::mean() const { return finite == 0 ? kNan : sum / static_cast<double>(finite); }

void Curve::Add(int64_t step, double value) {
  last_ = value;
  if (points_.empty() || points_.back().first_step / stride_ != step / stride_) points_.push_back({step, step});
  CurvePoint& point = points_.back();
  point.last_step = step;
  if (std::isfinite(value)) {
    point.sum += value;
    ++point.finite;
  }
  while (points_.size() > points_max_) Halve();
}

void Curve::Halve() {
  stride_ *= 2;
  size_t kept = 0;
  for (size_t i = 1; i < points_.size(); ++i) {
    CurvePoint& into = points_[kept];
    const CurvePoint& point = points_[i];
    if (into.first_step / stride_ != point.first_step / stride_) {
      points_[++kept] = point;
      continue;
    }
    into.last_step = point.last_step;
    into.sum += point.sum;
    into.finite += point.finite;
  }
  points_.resize(kept + 1);
}

double Curve::mean() const {
  CurvePoint all;
  for (const CurvePoint& point : points_) {
    all.sum += point.sum;
    all.finite += point.finite;
  }
  return all.mean();
}

double Curve::least() const {
  double least = kNan;
  for (const CurvePoint& point : points_) least = std::fmin(least, point.mean());
  return least;
}

void StepList::Add(int64_t first, int64_t last) {
  count_ += last - first + 1;
  const bool follows = !ranges_.empty() && ranges_.back().second + 1 == first && listed_ + last - first + 1 == count_;
  if (!follows && ranges_.size() == kRangesMax) return;
  if (follows) {
    ranges_.back().second = last;
  } else {
    ranges_.emplace_back(first, last);
  }
  listed_ += last - first + 1;
}

std::string StepList::ToString() const {
  const auto range = [](std::string* out, const std::pair<int64_t, int64_t>& r) {
    absl::StrAppend(out, r.first, r.second > r.first ? absl::StrCat(" to ", r.second) : "");
  };
  return absl::StrCat(absl::StrJoin(ranges_, ", ", range),
                      count_ > listed_ ? absl::StrCat(" and ", count_ - listed_, " more") : "");
}

bool History::AddLine(std::string_view line) {
  const auto parsed = ParseStep(line);
  if (!parsed || parsed->second <= last_step_) return false;
  const auto& [object, step] = *parsed;
  if (lines_ > 0 && step > last_step_ + 1) missing_.Add(last_step_ + 1, step - 1);
  ++lines_;
  last_step_ = step;
  const auto skipped = object.find("skipped");
  bool finite = skipped == object.end() || *skipped != true;
  for (const auto& [key, value] : object.items()) {
    const std::optional<double> number = key == "step" ? std::nullopt : NumberOf(value);
    if (!number) continue;
    if (key == "loss" || key == "grad_norm") finite = finite && std::isfinite(*number);
    const auto curve = curves_.find(key);
    if (curve != curves_.end()) {
      curve->second.Add(step, *number);
    } else if (curves_.size() < kCurvesMax) {
      curves_[key].Add(step, *number);
    }
  }
  if (!finite) non_finite_.Add(step, step);
  return true;
}

const Curve* History::Find(const std::string& key) const {
  const auto curve = curves_.find(key);
  return curve == curves_.end() ? nullptr : &curve->second;
}

bool ExpertHistory::AddLine(std::string_view line) {
  const auto parsed = ParseStep(line);
  if (!parsed || parsed->second <= last_step_) return false;
  const auto loads = parsed->first.find("loads");
  if (loads == parsed->first.end() || !loads->is_array() || loads->empty()) return false;
  if (last_step_ >= 0 && loads->size() != loads_.size()) return false;
  std::vector<std::vector<double>> shares;
  for (const Json& layer : *loads) {
    if (!layer.is_array() || layer.empty()) return false;
    std::vector<double>& of_layer = shares.emplace_back();
    double sum = 0;
    for (const Json& count : layer) {
      if (!count.is_number()) return false;
      sum += of_layer.emplace_back(count.get<double>());
    }
    for (double& share : of_layer) share *= static_cast<double>(of_layer.size()) / sum;
  }
  loads_ = std::move(shares);
  last_step_ = parsed->second;
  if (fullest_.empty()) fullest_.assign(loads_.size(), Curve(kExpertPointsMax));
  for (size_t layer = 0; layer < loads_.size(); ++layer) {
    fullest_[layer].Add(last_step_, *std::max_element(loads_[layer].begin(), loads_[layer].end()));
  }
  return true;
}

std::string ExpertLine(int64_t step, const std::vector<std::vector<int64_t>>& loads) {
  return Json{{"step", step}, {"loads", loads}}.dump();
}

}  // namespace angel_ptm
