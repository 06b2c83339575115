// Whether a run of the benchmarks is worse than a stored one: a gate for continuous integration.
//
//   compare [--tolerance 0.10] BASELINE RUN...
//
// All are files that benchmarks wrote with --json. A benchmark that was run several times into a file, or into several,
// counts with its median. A number is worse if it is by more than the tolerance, and by more than the baseline's own
// repeats differ from their median; a number of the baseline that the run lacks is worse, too, or a gate could pass by
// measuring nothing. Ends with 0 if nothing is worse, 1 if something is, 2 if the files cannot be compared.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "angel_ptm/base/json.h"
#include "angel_ptm/base/status.h"

namespace angel_ptm {
namespace {

struct Number {
  bool more_is_better = true;
  std::vector<double> values;

  double Median() const {
    std::vector<double> sorted = values;
    std::sort(sorted.begin(), sorted.end());
    return (sorted[(sorted.size() - 1) / 2] + sorted[sorted.size() / 2]) / 2;
  }
  // The largest distance of a value from the median, as a share of it.
  double Spread() const {
    const double median = Median();
    double spread = 0;
    for (const double value : values) spread = std::max(spread, std::abs(value / median - 1));
    return spread;
  }
};

// By program, case and quantity.
using Numbers = std::map<std::string, Number>;

absl::Status AddLine(const std::string& text, Numbers* numbers) {
  const nlohmann::json line = ParseJson(text);
  const auto is = [&line](const char* key, bool (nlohmann::json::*type)() const noexcept) {
    const auto found = line.find(key);
    return found != line.end() && ((*found).*type)();
  };
  using Json = nlohmann::json;
  if (!line.is_object() || !is("program", &Json::is_string) || !is("case", &Json::is_string) ||
      !is("quantity", &Json::is_string) || !is("better", &Json::is_string) || !is("value", &Json::is_number)) {
    return absl::InvalidArgumentError("wanted what a benchmark writes with --json, one object a line");
  }
  const double value = line["value"].get<double>();
  if (!(value > 0) || !std::isfinite(value)) {
    return absl::InvalidArgumentError(absl::StrCat("wanted a value above 0, got ", value));
  }
  Number& number = (*numbers)[absl::StrCat(line["program"].get<std::string>(), ": ", line["case"].get<std::string>(),
                                           ", ", line["quantity"].get<std::string>())];
  number.more_is_better = line["better"] == "more";
  number.values.push_back(value);
  return absl::OkStatus();
}

absl::Status AddFile(const std::string& path, Numbers* numbers) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat(path, ": cannot be read"));
  std::string text;
  int64_t line = 0;
  while (std::getline(file, text)) {
    ++line;
    if (text.size() > 4096 || NestsTooDeep(text)) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ":", line, ": wanted a line of JSON of at most 4,096 bytes"));
    }
    const absl::Status added = AddLine(text, numbers);
    if (!added.ok()) return absl::InvalidArgumentError(absl::StrCat(path, ":", line, ": ", added.message()));
  }
  if (line == 0) return absl::InvalidArgumentError(absl::StrCat(path, ": holds no measurement"));
  return absl::OkStatus();
}

// Prints the table; returns how many are worse.
int64_t Compare(const Numbers& baseline, const Numbers& run, double tolerance) {
  int64_t worse = 0;
  std::printf("%-90s %10s %10s %8s %8s\n", "", "baseline", "run", "run/base", "allowed");
  for (const auto& [name, before] : baseline) {
    const auto found = run.find(name);
    if (found == run.end()) {
      std::printf("%-90s %10.4g %10s  MISSING\n", name.c_str(), before.Median(), "");
      ++worse;
      continue;
    }
    const double ratio = found->second.Median() / before.Median(), allowed = std::max(tolerance, before.Spread());
    // As a factor of time both ways: 10 % slower is 1.10 times the time or 1 / 1.10 of the rate.
    const bool is_worse = before.more_is_better ? ratio * (1 + allowed) < 1 : ratio > 1 + allowed;
    worse += is_worse;
    std::printf("%-90s %10.4g %10.4g %8.3f %7.0f%%%s\n", name.c_str(), before.Median(), found->second.Median(), ratio,
                100 * allowed, is_worse ? "  WORSE" : "");
  }
  for (const auto& [name, number] : run) {
    if (!baseline.contains(name)) std::printf("%-90s %10s %10.4g  new\n", name.c_str(), "", number.Median());
  }
  return worse;
}

int Main(std::vector<std::string> arguments) {
  double tolerance = 0.10;
  if (arguments.size() >= 2 && arguments[0] == "--tolerance") {
    if (!absl::SimpleAtod(arguments[1], &tolerance) || !(tolerance >= 0) || tolerance > 10) {
      std::fprintf(stderr, "compare: --tolerance: wanted a share such as 0.10, got %s\n", arguments[1].c_str());
      return 2;
    }
    arguments.erase(arguments.begin(), arguments.begin() + 2);
  }
  if (arguments.size() < 2) {
    std::fprintf(stderr, "usage: compare [--tolerance 0.10] BASELINE RUN...\n");
    return 2;
  }
  Numbers baseline, run;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const absl::Status added = AddFile(arguments[i], i == 0 ? &baseline : &run);
    if (!added.ok()) {
      std::fprintf(stderr, "compare: %s\n", std::string(added.message()).c_str());
      return 2;
    }
  }
  const int64_t worse = Compare(baseline, run, tolerance);
  std::printf("%lld of %zu worse\n", static_cast<long long>(worse), baseline.size());
  return worse == 0 ? 0 : 1;
}

}  // namespace
}  // namespace angel_ptm

int main(int argc, char** argv) { return angel_ptm::Main({argv + 1, argv + argc}); }
