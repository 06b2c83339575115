// What runs rely on when the program is upgraded: a dataset in format version 1, kept in the repository, can still be
// read, and the same text still gives the same tokens in the same order of samples. Run with --write_testdata=<folder>
// to write a dataset for a new version.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "angel_ptm/data/loader.h"
#include "angel_ptm/data/permutation.h"
#include "angel_ptm/data/prepare.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

using testing::ElementsAre;
using testing::Pair;
using testing::StartsWith;

const std::string kTextFolder = std::string(ANGEL_PTM_TESTDATA) + "/text";
const std::string kVersion1 = std::string(ANGEL_PTM_TESTDATA) + "/version1";
const std::string kVersion2 = std::string(ANGEL_PTM_TESTDATA) + "/version2";

absl::StatusOr<PrepareReport> PrepareKeptText(const std::string& output) {
  return Prepare({.inputs = {kTextFolder},
                  .output = output,
                  .vocabulary_size = 300,
                  .validation_fraction = 0.4,
                  .seed = 5,
                  .threads = 1});
}

class FormatTest : public testing::TestWithParam<int> {};

TEST_P(FormatTest, ReadsEveryVersion) {
  const auto dataset = OpenTextDataset(GetParam() == 1 ? kVersion1 : kVersion2, 32);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  EXPECT_EQ(dataset->manifest.version, GetParam());
  EXPECT_EQ(dataset->note.empty(), GetParam() > 1);
  EXPECT_EQ(dataset->tokenizer->vocabulary_size(), 300);
  const DatasetManifest& m = dataset->manifest;
  EXPECT_EQ(m.seed, 5u);
  EXPECT_EQ(m.train.documents, 11);
  EXPECT_EQ(m.train.tokens, 2212);
  EXPECT_EQ(m.validation.documents, 5);
  EXPECT_EQ(m.validation.tokens, 664);
  EXPECT_EQ(m.replaced_sequences, 2);
  EXPECT_EQ(dataset->train->file().token_count(), m.train.tokens);
  std::vector<int32_t> tokens(m.train.tokens);
  ASSERT_TRUE(dataset->train->file().Read(0, tokens).ok());
  EXPECT_THAT(dataset->tokenizer->Decode(std::span(tokens).first(200)),
              StartsWith("Says says step to and from and back.\n\nHost the the when before says page frame host"));
}

INSTANTIATE_TEST_SUITE_P(Versions, FormatTest, testing::Values(1, 2));

// All versions have the same tokens: a run on version 1's dataset continues on version 2's.
TEST(FormatsTest, WritesVersion2) {
  const TemporaryFolder folder;
  const auto report = PrepareKeptText(folder.path());
  ASSERT_TRUE(report.ok()) << report.status();
  for (const char* name : {"tokenizer.json", "train.tokens", "validation.tokens"}) {
    EXPECT_EQ(Slurp(folder / name), Slurp(kVersion1 + "/" + name)) << name;
    EXPECT_EQ(Slurp(folder / name), Slurp(kVersion2 + "/" + name)) << name;
  }
  EXPECT_EQ(Slurp(folder / "tokenizer_config.json"), Slurp(kVersion2 + "/tokenizer_config.json"));
  const auto kept = DatasetManifest::FromJson(Slurp(kVersion2 + "/dataset.json"), "dataset.json");
  ASSERT_TRUE(kept.ok()) << kept.status();
  DatasetManifest written = report->manifest;
  // The only number that another machine's logarithm may round differently.
  EXPECT_NEAR(written.validation_unigram_entropy, kept->validation_unigram_entropy, 1e-12);
  written.validation_unigram_entropy = kept->validation_unigram_entropy;
  EXPECT_EQ(written.ToJson(), Slurp(kVersion2 + "/dataset.json"));
}

TEST(PinnedTest, Permutation) {
  const auto first = [](int64_t size, uint64_t seed, uint64_t epoch) {
    std::vector<int64_t> values;
    for (int64_t i = 0; i < std::min<int64_t>(size, 8); ++i) values.push_back(Permutation(size, seed, epoch)(i));
    return values;
  };
  EXPECT_THAT(first(5, 1, 0), ElementsAre(2, 0, 1, 4, 3));
  EXPECT_THAT(first(1000, 1, 0), ElementsAre(479, 333, 303, 447, 153, 511, 918, 317));
  EXPECT_THAT(first(1000, 1, 1), ElementsAre(598, 972, 233, 84, 852, 252, 750, 308));
  EXPECT_THAT(first(1000, uint64_t{1} << 40, 0), ElementsAre(476, 587, 320, 293, 986, 637, 508, 352));
  EXPECT_THAT(
      first(int64_t{1} << 33, 7, uint64_t{1} << 35),
      ElementsAre(4474386573, 3871527501, 697501006, 3833610232, 5044862568, 3358373907, 1682511339, 5848600086));
}

TEST(PinnedTest, MergesOfASmallText) {
  WordCounter counter;
  counter.Add("the page moves to the host; the pages move back. 页面移动，页面返回。 the then theme\n");
  const auto merges = TrainBpe(counter.counts(), {.merges = 10});
  ASSERT_TRUE(merges.ok()) << merges.status();
  std::vector<std::pair<int32_t, int32_t>> pairs;
  for (const BpeMerge& merge : *merges) pairs.push_back({merge.left, merge.right});
  EXPECT_THAT(pairs, ElementsAre(Pair(32, 116), Pair(104, 101), Pair(256, 257), Pair(32, 109), Pair(32, 112),
                                 Pair(97, 103), Pair(101, 115), Pair(111, 118), Pair(157, 162), Pair(161, 181)));
}

TEST(PinnedTest, WindowsOfSamples) {
  const auto dataset = OpenTextDataset(kVersion1, 32);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  const auto loader = Loader::Create(dataset->train.get(), {.global_batch = 4, .micro_batch = 2, .seed = 3});
  const auto evaluation = Loader::Create(dataset->validation.get(), {.global_batch = 4, .evaluation_samples = 6});
  ASSERT_TRUE(loader.ok() && evaluation.ok());
  std::vector<int64_t> windows, evaluation_windows;
  for (int64_t i = 0; i < 12; ++i) windows.push_back(loader->WindowOfSample(i));
  for (int64_t i = 0; i < 8; ++i) evaluation_windows.push_back(evaluation->WindowOfSample(i));
  EXPECT_THAT(windows, ElementsAre(61, 40, 26, 64, 39, 35, 4, 30, 50, 19, 51, 63));
  EXPECT_THAT(evaluation_windows, ElementsAre(5, 9, 8, 17, 3, 16, -1, -1));
  EXPECT_EQ(loader->WindowOfSample(loader->sample_count()), 36);  // the first of the second epoch

  std::vector<int32_t> tokens(64), targets(64), positions(64), segment_start(64);
  EXPECT_EQ(loader
                ->FillMicroBatch({.first_sample = 4, .micro = 0, .rank = 1, .world = 2},
                                 {tokens, targets, positions, segment_start})
                .value(),
            62);
  for (std::vector<int32_t>* row : {&tokens, &targets, &positions, &segment_start}) row->resize(16);
  EXPECT_THAT(tokens, ElementsAre(112, 295, 34, 259, 99, 107, 112, 276, 292, 34, 282, 298, 48, 12, 0, 85));
  EXPECT_THAT(targets, ElementsAre(295, 34, 259, 99, 107, 112, 276, 292, 34, 282, 298, 48, 12, 0, -1, 99));
  EXPECT_THAT(positions, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0));
  EXPECT_THAT(segment_start, ElementsAre(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 15));
}

}  // namespace
}  // namespace angel_ptm

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  constexpr char kFlag[] = "--write_testdata=";
  for (int i = 1; i < argc; ++i) {
    if (std::strncmp(argv[i], kFlag, sizeof(kFlag) - 1) != 0) continue;
    const auto report = angel_ptm::PrepareKeptText(argv[i] + sizeof(kFlag) - 1);
    if (!report.ok()) std::fprintf(stderr, "%s\n", report.status().ToString().c_str());
    return report.ok() ? 0 : 1;
  }
  return RUN_ALL_TESTS();
}
