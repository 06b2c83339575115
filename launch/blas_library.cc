#include "launch/blas_library.h"

#include <cblas.h>

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

std::string DescribeBlas() {
  const std::vector<std::string> words = absl::StrSplit(openblas_get_config(), absl::MaxSplits(' ', 2));
  std::string text = absl::StrCat(words[0], words.size() > 1 ? " " + words[1] : "", ", core ", openblas_get_corename());
  if (BlasThreadsMax() > 0) absl::StrAppend(&text, ", at most ", BlasThreadsMax(), " threads");
  return text;
}

}  // namespace angel_ptm
