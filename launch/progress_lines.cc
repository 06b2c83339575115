#include "launch/progress_lines.h"

#include <algorithm>
#include <chrono>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "angel_ptm/base/text.h"

namespace angel_ptm {
namespace {

constexpr size_t kPointsMax = 12;  // a minute of lines
constexpr int64_t kWrittenOut = 10'000'000;

double SteadySeconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// "3,635", and in units what nobody counts.
std::string Number(int64_t number, int64_t all) {
  if (all >= kWrittenOut) return FormatCount(static_cast<double>(number));
  std::string digits = absl::StrCat(number);
  for (size_t at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, ",");
  return digits;
}

std::string Rate(double rate) {
  if (rate < 1) return absl::StrCat(FormatSeconds(1 / rate), " each");
  return rate < 1000 ? absl::StrFormat("%.1f/s", rate) : FormatCount(rate) + "/s";
}

}  // namespace

ProgressLines::ProgressLines(std::string command, Options options)
    : command_(std::move(command)), options_(std::move(options)) {
  if (!options_.now) options_.now = &SteadySeconds;
  said_ = options_.now();
}

void ProgressLines::Report(std::string_view what, int64_t done, int64_t all) {
  const double now = options_.now();
  if (points_.empty() || what != what_ || done < points_.back().done) {
    what_ = what;
    points_ = {{now, done}};
  }
  if (now - said_ < options_.seconds || done >= all) return;
  said_ = now;
  const double rate = static_cast<double>(done - points_.front().done) / std::max(1e-9, now - points_.front().time);
  std::string line = absl::StrCat(command_, ": ", Number(done, all), " of ", Number(all, all), " ", what_);
  if (rate > 0) {
    absl::StrAppend(&line, ", ", Rate(rate), ", ", FormatSeconds(static_cast<double>(all - done) / rate), " left");
  }
  std::fprintf(options_.out, "%s\n", line.c_str());
  std::fflush(options_.out);
  points_.push_back({now, done});
  if (points_.size() > kPointsMax) points_.pop_front();
}

}  // namespace angel_ptm
