// Runs the corpus, and a fixed number of random changes of it, through the functions that libFuzzer calls. Works with
// any compiler and build and takes seconds.
#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "tests/fuzz/entries.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

class ReplayTest : public testing::TestWithParam<FuzzTarget> {
 protected:
  void SetUp() override {
    const std::string folder = std::string(ANGEL_PTM_FUZZ_CORPUS) + "/" + GetParam().name;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) paths_.push_back(entry.path().string());
    std::sort(paths_.begin(), paths_.end());
    ASSERT_FALSE(paths_.empty()) << folder;
  }
  std::vector<std::string> paths_;
};

TEST_P(ReplayTest, Corpus) {
  for (const std::string& path : paths_) {
    SCOPED_TRACE(path);
    GetParam().run(Slurp(path));
  }
  GetParam().run("");
}

TEST_P(ReplayTest, RandomChanges) {
  constexpr int kChanges = 2000;
  std::mt19937 random(1);
  for (int i = 0; i < kChanges; ++i) {
    std::string bytes = Slurp(paths_[random() % paths_.size()]);
    for (int change = 1 + static_cast<int>(random() % 4); change > 0; --change) {
      const size_t at = random() % (bytes.size() + 1), n = std::min<size_t>(1 + random() % 16, bytes.size() - at);
      switch (random() % 4) {
        case 0:
          if (n > 0) bytes[at] = static_cast<char>(random());
          break;
        case 1:
          bytes.erase(at, n);
          break;
        case 2:
          bytes.insert(at, bytes.substr(random() % (bytes.size() + 1), n));
          break;
        default:
          bytes.insert(at, std::to_string(static_cast<int64_t>(random()) << random() % 34));
      }
    }
    GetParam().run(bytes);
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, ReplayTest, testing::ValuesIn(kFuzzTargets),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace angel_ptm
