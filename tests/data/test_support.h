// Random material that the data tests share.
#ifndef TESTS_DATA_TEST_SUPPORT_H_
#define TESTS_DATA_TEST_SUPPORT_H_

#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace angel_ptm {

// `count` words of `alphabet`, with lengths 1 to `length_max`.
inline std::vector<std::string> RandomWords(std::mt19937* random, int count, int length_max,
                                            const std::string& alphabet) {
  std::vector<std::string> words(count);
  for (std::string& word : words) {
    const int length = 1 + static_cast<int>((*random)() % length_max);
    for (int i = 0; i < length; ++i) word += alphabet[(*random)() % alphabet.size()];
  }
  return words;
}

}  // namespace angel_ptm

#endif  // TESTS_DATA_TEST_SUPPORT_H_
