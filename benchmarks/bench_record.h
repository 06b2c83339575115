// What a benchmark measured, written down for benchmarks/compare: one line of JSON for each number.
#ifndef ANGEL_PTM_BENCHMARKS_BENCH_RECORD_H_
#define ANGEL_PTM_BENCHMARKS_BENCH_RECORD_H_

#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

namespace angel_ptm {

// Numbers that a machine's speed cancels out of: shares of a peak, or multiples of a calibration, of the same run.
enum class Better { kMore, kLess };

class BenchRecord {
 public:
  // Takes "--json FILE" out of the command line, if it is there; the file gets what the program measures, behind what
  // it holds. Ends the program if that cannot be.
  BenchRecord(std::string_view program, int* argc, char** argv) : program_(program) {
    for (int i = 1; i < *argc; ++i) {
      if (std::string_view(argv[i]) != "--json") continue;
      if (i + 1 == *argc) Fail("--json: wanted a file's name behind it");
      file_ = std::fopen(argv[i + 1], "a");
      if (file_ == nullptr) Fail(std::string("--json: cannot write ") + argv[i + 1]);
      for (int j = i; j + 2 <= *argc; ++j) argv[j] = argv[j + 2];
      *argc -= 2;
      return;
    }
  }
  BenchRecord(const BenchRecord&) = delete;
  BenchRecord& operator=(const BenchRecord&) = delete;
  ~BenchRecord() {
    if (file_ != nullptr && std::fclose(file_) != 0) Fail("--json: the file could not be written");
  }

  // What all numbers of the run were measured with: part of their names.
  void SetSetting(std::string setting) { setting_ = std::move(setting) + ": "; }

  void Add(std::string_view name, std::string_view quantity, Better better, double value) {
    if (file_ == nullptr) return;
    const nlohmann::json line = {{"program", program_},
                                 {"case", setting_ + std::string(name)},
                                 {"quantity", quantity},
                                 {"better", better == Better::kMore ? "more" : "less"},
                                 {"value", value}};
    std::fprintf(file_, "%s\n", line.dump().c_str());
  }

 private:
  [[noreturn]] void Fail(const std::string& why) const {
    std::fprintf(stderr, "%s: %s\n", program_.c_str(), why.c_str());
    std::exit(2);
  }

  const std::string program_;
  std::string setting_;
  std::FILE* file_ = nullptr;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_BENCHMARKS_BENCH_RECORD_H_
