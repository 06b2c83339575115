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

}  // namespace
}  // namespace angel_ptm
