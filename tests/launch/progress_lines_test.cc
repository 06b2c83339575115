// When lines about long work come, and what they say.
#include "launch/progress_lines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

namespace angel_ptm {
namespace {

class ProgressLinesTest : public ::testing::Test {
 protected:
  ProgressLinesTest() : out_(open_memstream(&text_, &size_)) {}
  ~ProgressLinesTest() override {
    std::fclose(out_);
    std::free(text_);  // NOLINT: open_memstream's
  }
  // What was said since the last call.
  std::string Said() {
    std::fflush(out_);
    std::string said(text_ + read_, size_ - read_);
    read_ = size_;
    return said;
  }

  char* text_ = nullptr;
  size_t size_ = 0, read_ = 0;
  std::FILE* const out_;
  double now_ = 100;
  ProgressLines lines_{"encode", {.out = out_, .now = [this] { return now_; }}};
};

TEST_F(ProgressLinesTest, ShortWorkIsSilent) {
  const ReportProgress report = lines_.Reporter();
  for (int i = 0; i <= 4; ++i, ++now_) report("images", i, 4);
  EXPECT_EQ(Said(), "");
  now_ += 60;
  report("images", 4, 4);  // done: the command says so
  EXPECT_EQ(Said(), "");
}

TEST_F(ProgressLinesTest, ALineInFiveSeconds) {
  const ReportProgress report = lines_.Reporter();
  for (int64_t i = 0; i < 160; ++i, now_ += 0.125) report("images", i * 25, 14000);
  EXPECT_EQ(Said(),
            "encode: 1,000 of 14,000 images, 200.0/s, 1m05s left\n"
            "encode: 2,000 of 14,000 images, 200.0/s, 1m00s left\n"
            "encode: 3,000 of 14,000 images, 200.0/s, 55.0 s left\n");
}

// What a cache had is forgotten after a while, and each kind of work has a rate of its own.
TEST_F(ProgressLinesTest, TheRateIsOfTheLastMinute) {
  lines_.Report("images", 0, 20000);
  for (int i = 1; i <= 30; ++i, now_ += 6) lines_.Report("images", 10000 + i, 20000);
  EXPECT_THAT(Said(), testing::EndsWith("encode: 10,030 of 20,000 images, 6.0 s each, 16h37m left\n"));
  lines_.Report("texts", 0, 20);
  now_ += 5;
  lines_.Report("texts", 0, 20);
  EXPECT_EQ(Said(), "encode: 0 of 20 texts\nencode: 0 of 20 texts\n");
  now_ += 5;
  lines_.Report("texts", 10, 20);
  EXPECT_EQ(Said(), "encode: 10 of 20 texts, 1.0/s, 10.0 s left\n");
}

TEST_F(ProgressLinesTest, LargeNumbersHaveUnits) {
  lines_.Report("parameters", 0, 3'000'000'000);
  now_ += 10;
  lines_.Report("parameters", 1'000'000'000, 3'000'000'000);
  EXPECT_EQ(Said(), "encode: 1.00 G of 3.00 G parameters, 100 M/s, 20.0 s left\n");
}

}  // namespace
}  // namespace angel_ptm
