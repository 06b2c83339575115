// The code that a hostile file meets first, one function per format: each reads `bytes` as a file of its kind and uses
// the result. They must return whatever the bytes are. Called by libFuzzer (fuzz_main.cc) and by replay_test.cc.
#ifndef ANGEL_PTM_TESTS_FUZZ_ENTRIES_H_
#define ANGEL_PTM_TESTS_FUZZ_ENTRIES_H_

#include <string_view>

namespace angel_ptm {

struct FuzzTarget {
  const char* name;  // of its folder in corpus/
  void (*run)(std::string_view bytes);
};

void FuzzConfig(std::string_view bytes);
void FuzzDataset(std::string_view bytes);
void FuzzImageDataset(std::string_view bytes);
void FuzzImageFile(std::string_view bytes);
void FuzzManifest(std::string_view bytes);
void FuzzSafetensors(std::string_view bytes);
void FuzzTokenFile(std::string_view bytes);
void FuzzTokenizer(std::string_view bytes);

inline constexpr FuzzTarget kFuzzTargets[] = {
    {"config", FuzzConfig},        {"dataset", FuzzDataset},    {"image_dataset", FuzzImageDataset},
    {"image_file", FuzzImageFile}, {"manifest", FuzzManifest},  {"safetensors", FuzzSafetensors},
    {"token_file", FuzzTokenFile}, {"tokenizer", FuzzTokenizer}};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_FUZZ_ENTRIES_H_
