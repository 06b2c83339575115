#include "launch/blas_library.h"

#include <cblas.h>

#include <algorithm>
#include <iterator>
#include <string_view>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace angel_ptm {

int ThreadsInBlasConfig(const std::string& config) {
  for (absl::string_view word : absl::StrSplit(config, ' ', absl::SkipWhitespace())) {
    int threads = 0;
    if (absl::ConsumePrefix(&word, "MAX_THREADS=") && absl::SimpleAtoi(word, &threads) && threads > 0) return threads;
  }
  return 0;
}

int BlasThreadsMax() { return ThreadsInBlasConfig(openblas_get_config()); }

std::string BetterBlasCore(const std::string& chosen, bool has_avx2, bool has_avx512) {
  static constexpr std::string_view kWithAvx2[] = {"Haswell",  "Zen",        "Excavator",
                                                   "SkylakeX", "Cooperlake", "Sapphirerapids"};
  if (!has_avx2 || std::ranges::find(kWithAvx2, chosen) != std::end(kWithAvx2)) return "";
  return has_avx512 ? "SkylakeX" : "Haswell";
}

std::string BetterBlasCore() {
#ifdef __x86_64__
  const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                          __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  return BetterBlasCore(openblas_get_corename(), __builtin_cpu_supports("avx2"), has_avx512);
#else
  return "";
#endif
}

std::string DescribeBlas() {
  const std::vector<std::string> words = absl::StrSplit(openblas_get_config(), absl::MaxSplits(' ', 2));
  std::string text = absl::StrCat(words[0], words.size() > 1 ? " " + words[1] : "", ", core ", openblas_get_corename());
  if (BlasThreadsMax() > 0) absl::StrAppend(&text, ", at most ", BlasThreadsMax(), " threads");
  return text;
}

}  // namespace angel_ptm
