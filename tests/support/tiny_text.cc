#include "tests/support/tiny_text.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/random.h"
#include "angel_ptm/data/prepare.h"
#include "tests/support/or_die.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

std::string Prose(uint64_t seed) {
  static const std::vector<std::string> words = {"pages", "move",  "between", "device", "and",   "host",
                                                 "while", "ranks", "gather",  "what",   "they",  "need",
                                                 "in",    "order", "of",      "use",    "then.", "\n\n"};
  std::string text;
  for (uint64_t i = 0; i < 6000; ++i) {
    absl::StrAppend(&text, words[RandomWords(seed, RandomPurpose::kTest, 0, i)[0] % words.size()], " ");
  }
  return text;
}

}  // namespace

std::string PrepareTinyText(const std::string& folder, uint64_t seed) {
  Spill(folder + "/text/prose.txt", Prose(seed));
  const PrepareOptions options{.inputs = {folder + "/text"},
                               .output = folder + "/data",
                               .vocabulary_size = kTinyVocabulary,
                               .validation_fraction = 0.1,
                               .threads = 1};
  OrDie(Prepare(options).status());
  return options.output;
}

}  // namespace angel_ptm
