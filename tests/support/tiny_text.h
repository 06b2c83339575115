// A small dataset for tests that train on prepared text.
#ifndef ANGEL_PTM_TESTS_SUPPORT_TINY_TEXT_H_
#define ANGEL_PTM_TESTS_SUPPORT_TINY_TEXT_H_

#include <cstdint>
#include <string>

namespace angel_ptm {

inline constexpr int kTinyVocabulary = 300;

// Writes some deterministic prose, different for every seed, prepares it as a dataset of kTinyVocabulary tokens in
// <folder>/data, and returns that path. CHECK-fails if it cannot.
std::string PrepareTinyText(const std::string& folder, uint64_t seed = 1);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_SUPPORT_TINY_TEXT_H_
