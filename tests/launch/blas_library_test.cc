#include "launch/blas_library.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace angel_ptm {
namespace {

TEST(BlasLibraryTest, ThreadsAreReadFromItsOwnWords) {
  EXPECT_EQ(ThreadsInBlasConfig("OpenBLAS 0.3.21 DYNAMIC_ARCH NO_AFFINITY USE_OPENMP SkylakeX MAX_THREADS=128"), 128);
  EXPECT_EQ(ThreadsInBlasConfig("OpenBLAS 0.3.21 SINGLE_THREADED"), 0);
  EXPECT_EQ(ThreadsInBlasConfig("MAX_THREADS=x"), 0);
  EXPECT_EQ(ThreadsInBlasConfig(""), 0);
}

TEST(BlasLibraryTest, TheOneInUseHasAVersionAndACore) {
  EXPECT_THAT(DescribeBlas(), testing::MatchesRegex("OpenBLAS [0-9.]+.*, core [A-Za-z0-9_]+.*"));
}

TEST(BlasLibraryTest, AProcessorItDoesNotKnowIsTakenForOneItDoes) {
  EXPECT_EQ(BetterBlasCore("Prescott", /*has_avx2=*/true, /*has_avx512=*/true), "SkylakeX");
  EXPECT_EQ(BetterBlasCore("Prescott", true, false), "Haswell");
  EXPECT_EQ(BetterBlasCore("Prescott", false, false), "") << "one it is";
  EXPECT_EQ(BetterBlasCore("Barcelona", true, true), "SkylakeX");
  for (const char* known : {"Haswell", "Zen", "SkylakeX", "Cooperlake", "Sapphirerapids"}) {
    EXPECT_EQ(BetterBlasCore(known, true, true), "") << known;
  }
}

}  // namespace
}  // namespace angel_ptm
