// What the data tests share: temporary folders and random material.
#ifndef TESTS_DATA_TEST_SUPPORT_H_
#define TESTS_DATA_TEST_SUPPORT_H_

#include <stdlib.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

namespace angel_ptm {

// A folder that is removed at the end of the test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "angel_ptm_data_XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline std::string Slurp(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream content;
  content << file.rdbuf();
  return content.str();
}

inline void Spill(const std::string& path, const std::string& content) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary) << content;
}

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
