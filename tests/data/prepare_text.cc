// prepare_text <output> <vocabulary> <threads> <input>...: runs Prepare alone, for measurements and for
// tests/parity/tokenizer_parity.py.
#include <cstdio>
#include <cstdlib>

#include "angel_ptm/data/prepare.h"

int main(int argc, char** argv) {
  if (argc < 5) {
    std::fprintf(stderr, "usage: prepare_text <output> <vocabulary> <threads> <input>...\n");
    return 2;
  }
  angel_ptm::PrepareOptions options;
  options.output = argv[1];
  options.vocabulary_size = std::atoi(argv[2]);
  options.threads = std::atoi(argv[3]);
  for (int i = 4; i < argc; ++i) options.inputs.push_back(argv[i]);
  const auto report = angel_ptm::Prepare(options);
  if (!report.ok()) {
    std::fprintf(stderr, "%s\n", report.status().ToString().c_str());
    return 1;
  }
  std::fputs(report->ToString().c_str(), stdout);
  return 0;
}
