// tokenize_file <folder> <text file>...: prints each file's ids by the folder's tokenizer, separated by spaces, on one
// line per file. For tests/parity.
#include <cstdio>
#include <vector>

#include "angel_ptm/base/file.h"
#include "angel_ptm/data/tokenizer.h"

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: tokenize_file <folder> <text file>...\n");
    return 2;
  }
  const auto tokenizer = angel_ptm::Tokenizer::LoadFolder(argv[1]);
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "%s\n", tokenizer.status().ToString().c_str());
    return 1;
  }
  angel_ptm::Tokenizer::Encoder encoder(**tokenizer);
  for (int i = 2; i < argc; ++i) {
    const auto text = angel_ptm::ReadFile(argv[i]);
    if (!text.ok()) {
      std::fprintf(stderr, "%s\n", text.status().ToString().c_str());
      return 1;
    }
    std::vector<int32_t> ids;
    encoder.Encode(*text, &ids);
    for (size_t k = 0; k < ids.size(); ++k) std::printf(k == 0 ? "%d" : " %d", ids[k]);
    std::printf("\n");
  }
  return 0;
}
