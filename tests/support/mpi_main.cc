#include "tests/support/mpi_main.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

namespace angel_ptm {
namespace {

MpiWorld* test_world = nullptr;

// Ranks other than 0 print only their failures, each line once and with the rank.
class FailurePrinter final : public testing::EmptyTestEventListener {
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::fprintf(stderr, "rank %d: %s:%d: %s\n", test_world->rank(), result.file_name(), result.line_number(),
                 result.message());
  }
};

}  // namespace

MpiWorld& TestMpiWorld() { return *test_world; }

std::filesystem::path NewSharedFolder(const std::filesystem::path& in) {
  std::array<char, 256> name = {};
  const std::string pattern = in / "angel-ptm.XXXXXX";
  std::memcpy(name.data(), pattern.data(), std::min(pattern.size(), name.size() - 1));
  const absl::Status met =
      test_world->meeting().Meet("the naming of a folder", {}, std::as_writable_bytes(std::span(name)),
                                 [&](std::span<const std::byte>, std::span<std::byte> answers) {
                                   EXPECT_NE(mkdtemp(name.data()), nullptr);
                                   for (size_t at = 0; at < answers.size(); at += name.size()) {
                                     std::memcpy(answers.data() + at, name.data(), name.size());
                                   }
                                 });
  EXPECT_TRUE(met.ok()) << met;
  return name.data();
}

}  // namespace angel_ptm

int main(int argc, char** argv) {
  auto world = angel_ptm::MpiWorld::Init(/*limit_seconds=*/300);
  if (!world.ok()) {
    std::fprintf(stderr, "%s\n", std::string(world.status().message()).c_str());
    return 1;
  }
  angel_ptm::test_world = world->get();
  // Must precede InitGoogleTest, which asks the worlds under test for their sizes.
  testing::InitGoogleTest(&argc, argv);
  if ((*world)->rank() != 0) {
    testing::TestEventListeners& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new angel_ptm::FailurePrinter);
  }
  const int failed = RUN_ALL_TESTS();
  // A rank that failed must not wait in MPI_Finalize for peers that are still in a test.
  if (failed != 0) (*world)->Abort(1);
  return 0;
}
