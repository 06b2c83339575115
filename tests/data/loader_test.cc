// Token files, windows and the order of samples.
#include "angel_ptm/data/loader.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <random>
#include <set>

#include "angel_ptm/base/checksum.h"
#include "angel_ptm/data/permutation.h"
#include "angel_ptm/data/token_file.h"
#include "angel_ptm/data/tokenizer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/base/child_process.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct Documents {
  std::vector<std::vector<int32_t>> documents;
  std::vector<int32_t> tokens;       // all documents' tokens
  std::vector<int64_t> document_of;  // by token
};

// Random documents of 1 to `length_max` tokens, end-of-text included.
Documents RandomDocuments(int count, int length_max, int32_t vocabulary_size, int seed) {
  std::mt19937 random(seed);
  Documents result;
  for (int d = 0; d < count; ++d) {
    std::vector<int32_t> document(random() % length_max);
    for (int32_t& token : document) token = static_cast<int32_t>(2 + random() % (vocabulary_size - 2));
    document.push_back(kEndOfTextId);
    for (int32_t token : document) {
      result.tokens.push_back(token);
      result.document_of.push_back(d);
    }
    result.documents.push_back(document);
  }
  return result;
}

void Write(const std::string& path, const std::vector<std::vector<int32_t>>& documents, int32_t vocabulary_size) {
  std::filesystem::remove(path);
  auto writer = TokenFileWriter::Create(path, vocabulary_size, kEndOfTextId, 0x1234);
  ASSERT_TRUE(writer.ok()) << writer.status();
  for (const auto& document : documents) ASSERT_TRUE(writer->AppendDocument(document).ok());
  ASSERT_TRUE(writer->Finish().ok());
  EXPECT_FALSE(std::filesystem::exists(path));
  ASSERT_TRUE(writer->Commit().ok());
}

// The buffers of one sample or one micro-batch.
struct Owned {
  explicit Owned(int64_t size) : tokens(size, -7), targets(size, -7), positions(size, -7), segment_start(size, -7) {}
  SampleBuffers view() { return {tokens, targets, positions, segment_start}; }
  std::vector<int32_t> tokens, targets, positions, segment_start;
  bool operator==(const Owned&) const = default;
};

TEST(PermutationTest, IsABijectionForEverySize) {
  std::vector<int64_t> sizes = {1000, 1023, 1024, 1025, 4097, 65537};
  for (int64_t size = 1; size <= 130; ++size) sizes.push_back(size);
  for (int64_t size : sizes) {
    std::vector<bool> hit(size);
    const Permutation permutation(size, 5, 9);
    for (int64_t i = 0; i < size; ++i) {
      const int64_t image = permutation(i);
      ASSERT_TRUE(image >= 0 && image < size && !hit[image]) << size << " " << i;
      hit[image] = true;
    }
  }
}

TEST(PermutationTest, SeedAndEpochMatterAndOrderIsMixed) {
  const int64_t size = 10000;
  const Permutation a(size, 1, 0), b(size, 1, 1), c(size, 2, 0), again(size, 1, 0);
  int64_t same_b = 0, same_c = 0, fixed = 0, neighbours = 0;
  double half_sum = 0;
  for (int64_t i = 0; i < size; ++i) {
    EXPECT_EQ(a(i), again(i));
    same_b += a(i) == b(i);
    same_c += a(i) == c(i);
    fixed += a(i) == i;
    neighbours += i > 0 && std::abs(a(i) - a(i - 1)) == 1;
    if (i < size / 2) half_sum += static_cast<double>(a(i));
  }
  // Each expected once or twice in a random permutation.
  for (int64_t count : {same_b, same_c, fixed, neighbours}) EXPECT_LT(count, 12);
  EXPECT_NEAR(half_sum / (size / 2.0), size / 2.0, 200);  // 5 standard deviations
}

TEST(TokenFileTest, RoundTripsInTwoAndFourBytes) {
  const TemporaryFolder folder;
  for (int32_t vocabulary_size : {300, 65536, 65537, 200000}) {
    const Documents data = RandomDocuments(50, 40, vocabulary_size, 1);
    const std::string path = folder / ("v" + std::to_string(vocabulary_size));
    Write(path, data.documents, vocabulary_size);
    const auto file = TokenFile::Open(path);
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ((*file)->token_count(), static_cast<int64_t>(data.tokens.size()));
    EXPECT_EQ((*file)->document_count(), 50);
    EXPECT_EQ((*file)->vocabulary_size(), vocabulary_size);
    EXPECT_EQ((*file)->tokenizer_xxh64(), 0x1234u);
    std::vector<int32_t> tokens(data.tokens.size());
    EXPECT_TRUE((*file)->Read(0, tokens).ok());
    EXPECT_EQ(tokens, data.tokens);
    EXPECT_EQ(std::filesystem::file_size(path) > 4096 + data.tokens.size() * 4, vocabulary_size > 65536);
  }
}

TEST(TokenFileTest, SpansSeveralChecksumChunks) {
  const TemporaryFolder folder;
  const Documents data = RandomDocuments(300, 9000, 60000, 2);  // about 2.7 MB
  Write(folder / "t", data.documents, 60000);
  std::string bytes = Slurp(folder / "t");
  ASSERT_GT(bytes.size(), size_t{2 << 20});
  ASSERT_TRUE(TokenFile::Open(folder / "t").ok());
  bytes[4096 + (1 << 20) + 17] ^= 1;
  Spill(folder / "t", bytes);
  const auto file = TokenFile::Open(folder / "t");
  EXPECT_EQ(file.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(file.status().message()), HasSubstr("between bytes 1052672 and 2101248: expected checksum"));
}

TEST(TokenFileTest, RejectsEveryFlippedBitAndEveryTruncation) {
  const TemporaryFolder folder;
  const std::string path = folder / "t";
  Write(path, RandomDocuments(8, 30, 300, 3).documents, 300);
  const std::string good = Slurp(path);
  std::mt19937 random(4);
  for (size_t at = 0; at < good.size(); at += at < 128 || at >= 4000 ? 1 : 61) {
    std::string bad = good;
    bad[at] ^= static_cast<char>(1 << random() % 8);
    Spill(path, bad);
    const auto file = TokenFile::Open(path);
    ASSERT_FALSE(file.ok()) << "byte " << at;
    EXPECT_THAT(std::string(file.status().message()), testing::AllOf(HasSubstr(path), HasSubstr("expected")));
  }
  for (size_t size = 0; size < good.size(); size += 1 + size / 50) {
    Spill(path, good.substr(0, size));
    const auto file = TokenFile::Open(path);
    ASSERT_EQ(file.status().code(), absl::StatusCode::kDataLoss) << size;
    EXPECT_THAT(std::string(file.status().message()),
                testing::AllOf(HasSubstr("truncated"), HasSubstr(std::to_string(size))));
  }
  Spill(path, good + "x");
  EXPECT_EQ(TokenFile::Open(path).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(TokenFile::Open(folder / "none").status().code(), absl::StatusCode::kNotFound);
}

// The bytes with their checksums corrected after a change; the content is one chunk.
std::string Resealed(std::string bytes) {
  const auto put = [&](size_t at, uint64_t value) { std::memcpy(bytes.data() + at, &value, sizeof(value)); };
  const size_t checksums = bytes.size() - 8;
  put(checksums, Xxh64(bytes.data() + 4096, checksums - 4096));
  put(64, Xxh64(bytes.data() + checksums, 8));
  put(4088, Xxh64(bytes.data(), 4088));
  return bytes;
}

TEST(TokenFileTest, RejectsNumbersThatDoNotFitTogether) {
  const TemporaryFolder folder;
  const std::string path = folder / "t";
  Write(path, {{5, 6, 0}, {7, 0}, {8, 9, 0}}, 300);  // starts at 4112, chunk checksums at 4144
  const std::string good = Slurp(path);
  ASSERT_EQ(good.size(), 4152u);
  const auto error = [&](size_t at, uint64_t value, size_t bytes = 8) {
    std::string bad = good;
    std::memcpy(bad.data() + at, &value, bytes);
    Spill(path, Resealed(bad));
    const absl::Status status = TokenFile::Open(path).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(error(12, 4, 4), HasSubstr("the bytes per token should be 2, got 4"));
  EXPECT_THAT(error(16, 9), HasSubstr("the offset of the document starts should be 4120, got 4112"));
  EXPECT_THAT(error(16, uint64_t{1} << 63),
              HasSubstr("the token count should be at most 2076, got 9223372036854775808"));
  EXPECT_THAT(error(24, 2), HasSubstr("the offset of the chunk checksums should be 4136, got 4144"));
  EXPECT_THAT(error(24, ~uint64_t{0}), HasSubstr("the document count should be at most 519, got 18446744073709551615"));
  EXPECT_THAT(error(32, 0, 4), HasSubstr("the vocabulary size should be from 1 to 2147483647, got 0"));
  EXPECT_THAT(error(36, 1 << 21, 4), HasSubstr("the bytes per chunk should be 1048576, got 2097152"));
  EXPECT_THAT(error(48, uint64_t{1} << 40), HasSubstr("the offset of the document starts should be 4112, got 10995"));
  EXPECT_THAT(error(56, 4096), HasSubstr("the offset of the chunk checksums should be 4144, got 4096"));
  EXPECT_THAT(error(4112, 1), HasSubstr("its documents should cover tokens 0 to 8, got 1 to 8"));
  EXPECT_THAT(error(4136, 9), HasSubstr("its documents should cover tokens 0 to 8, got 0 to 9"));
  EXPECT_THAT(error(4120, 6), HasSubstr("document 2 should start behind token 6, got 5"));
  EXPECT_THAT(error(4100, 7, 2), HasSubstr("its 3 documents should each end with the one token 0, got 2 of it"));
  EXPECT_THAT(error(4098, 300, 2), HasSubstr("its tokens should be below its vocabulary size of 300, got 300"));
  Spill(path, Resealed(good));
  EXPECT_TRUE(TokenFile::Open(path).ok());
}

// Two and a half chunks of tokens, opened without reading them.
class LargeTokenFileTest : public testing::Test {
 protected:
  void SetUp() override {
    data_ = RandomDocuments(300, 9000, 60000, 2);
    Write(path_, data_.documents, 60000);
    auto opened = TokenFile::Open(path_, {.checked_at_open_bytes_max = 0});
    ASSERT_TRUE(opened.ok()) << opened.status();
    file_ = *std::move(opened);
  }
  // Reads 100 tokens in the second chunk.
  absl::Status ReadSome() {
    std::vector<int32_t> tokens(100);
    RETURN_IF_ERROR(file_->Read(kFirst, tokens));
    EXPECT_TRUE(std::equal(tokens.begin(), tokens.end(), data_.tokens.begin() + kFirst));
    return absl::OkStatus();
  }
  // Overwrites in place, as a program does to a file that others have open.
  void Overwrite(int64_t at, const std::string& bytes) {
    // Makes the change visible even if the file system's clock has not advanced since the file was written.
    const auto written = std::filesystem::last_write_time(path_);
    std::fstream file(path_, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(at);
    file << bytes;
    ASSERT_TRUE(file.flush());
    std::filesystem::last_write_time(path_, written + std::chrono::seconds(1));
  }

  static constexpr int64_t kFirst = 700000, kByte = 4096 + 2 * kFirst;
  const TemporaryFolder folder_;
  const std::string path_ = folder_ / "t";
  Documents data_;
  std::unique_ptr<TokenFile> file_;
};

TEST_F(LargeTokenFileTest, ReadsAcrossChunks) {
  std::vector<int32_t> tokens(data_.tokens.size() - 10);
  ASSERT_TRUE(file_->Read(5, tokens).ok());
  EXPECT_TRUE(std::equal(tokens.begin(), tokens.end(), data_.tokens.begin() + 5));
  EXPECT_TRUE(file_->Verify().ok());
  EXPECT_TRUE(ReadSome().ok());
}

TEST_F(LargeTokenFileTest, DamageIsSeenWhereItIsRead) {
  Overwrite(kByte + 5000, "x");
  const auto opened = TokenFile::Open(path_, {.checked_at_open_bytes_max = 0});
  ASSERT_TRUE(opened.ok()) << opened.status();
  std::vector<int32_t> tokens(100);
  EXPECT_TRUE((*opened)->Read(0, tokens).ok());
  for (const absl::Status& status : {(*opened)->Read(kFirst, tokens), (*opened)->Verify()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(status.message()), HasSubstr("t is damaged between bytes 1052672 and 2101248: expected"));
  }
  EXPECT_FALSE(TokenFile::Open(path_).ok());
}

TEST_F(LargeTokenFileTest, TruncationInARunIsAnErrorAndNoSignal) {
  ASSERT_TRUE(ReadSome().ok());
  std::filesystem::resize_file(path_, kByte + 50);
  const absl::Status status = ReadSome();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("t was truncated while it was in use: expected"));
}

TEST_F(LargeTokenFileTest, AChangeInARunIsSeen) {
  ASSERT_TRUE(ReadSome().ok());
  // A file that was touched, or rewritten with the same bytes, counts as unchanged.
  Overwrite(kByte, Slurp(path_).substr(kByte, 10));
  EXPECT_TRUE(ReadSome().ok()) << ReadSome();
  Overwrite(kByte, "\xff\xff");  // a token beyond the vocabulary
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(std::string(ReadSome().message()),
                HasSubstr("t was changed while it was in use, and is damaged between bytes 1052672 and 2101248"));
  }
}

// The checksums are correct: only the check against the vocabulary finds a token for which the embedding table has no
// row.
TEST_F(LargeTokenFileTest, NoTokenAboveTheVocabularyIsReturned) {
  const std::string path = folder_ / "small";
  Write(path, {{5, 6, 0}, {7, 0}, {8, 9, 0}}, 300);
  std::string bad = Slurp(path);
  bad[4096 + 2] = bad[4096 + 3] = 1;  // 257
  bad[4096 + 4] = bad[4096 + 5] = 2;  // 514
  Spill(path, Resealed(bad));
  const auto file = TokenFile::Open(path, {.checked_at_open_bytes_max = 0});
  ASSERT_TRUE(file.ok()) << file.status();
  std::vector<int32_t> tokens(2);
  EXPECT_TRUE((*file)->Read(0, tokens).ok());
  EXPECT_THAT(std::string((*file)->Read(1, tokens).message()),
              HasSubstr("its tokens should be below its vocabulary size of 300, got 514"));
}

TEST_F(LargeTokenFileTest, AFailingDeviceIsASentence) {
  if (!SystemCallsCanFail()) GTEST_SKIP() << "system calls cannot be made to fail here";
  ASSERT_TRUE(ReadSome().ok());
  RunInChild([&] {
    ASSERT_TRUE(FailSystemCall(SYS_pread64, 2, 200, EIO));
    EXPECT_EQ(ReadSome().message(), "cannot read " + path_ + ": Input/output error");
  });
}

TEST(PackedDatasetTest, MarksDocumentBorders) {
  const TemporaryFolder folder;
  // Tokens: 5 6 0 | 7 0 | 8 9 10 0 | 11 0
  Write(folder / "t", {{5, 6, 0}, {7, 0}, {8, 9, 10, 0}, {11, 0}}, 300);
  const auto data = PackedDataset::Open(folder / "t", 5);
  ASSERT_TRUE(data.ok()) << data.status();
  ASSERT_EQ((*data)->window_count(), 2);
  Owned sample(5);
  EXPECT_EQ((*data)->FillWindow(0, sample.view()).value(), 3);
  EXPECT_THAT(sample.tokens, ElementsAre(5, 6, 0, 7, 0));
  EXPECT_THAT(sample.targets, ElementsAre(6, 0, -1, 0, -1));  // the last target starts the next window's document
  EXPECT_THAT(sample.positions, ElementsAre(0, 1, 2, 0, 1));
  EXPECT_THAT(sample.segment_start, ElementsAre(0, 0, 0, 3, 3));
  EXPECT_EQ((*data)->FillWindow(1, sample.view()).value(), 4);
  EXPECT_THAT(sample.tokens, ElementsAre(8, 9, 10, 0, 11));
  EXPECT_THAT(sample.targets, ElementsAre(9, 10, 0, -1, 0));
  EXPECT_THAT(sample.positions, ElementsAre(0, 1, 2, 3, 0));
  EXPECT_THAT(sample.segment_start, ElementsAre(0, 0, 0, 0, 4));
}

TEST(PackedDatasetTest, EqualsTheDefinitionOnRandomDocuments) {
  const TemporaryFolder folder;
  for (int length_max : {1, 3, 20, 400}) {
    const Documents data = RandomDocuments(200, length_max, 1000, length_max);
    Write(folder / "t", data.documents, 1000);
    for (int64_t length : {1, 2, 7, 64}) {
      const auto dataset = PackedDataset::Open(folder / "t", length);
      ASSERT_TRUE(dataset.ok()) << dataset.status();
      Owned sample(length);
      for (int64_t w = 0; w < (*dataset)->window_count(); ++w) {
        const int64_t count = (*dataset)->FillWindow(w, sample.view()).value();
        int64_t expected_count = 0;
        for (int64_t i = 0; i < length; ++i) {
          const int64_t at = w * length + i;
          const bool within = data.document_of[at] == data.document_of[at + 1];
          expected_count += within;
          int64_t start = i;
          while (start > 0 && data.document_of[w * length + start - 1] == data.document_of[at]) --start;
          ASSERT_EQ(sample.tokens[i], data.tokens[at]);
          ASSERT_EQ(sample.targets[i], within ? data.tokens[at + 1] : kIgnoredTarget);
          ASSERT_EQ(sample.segment_start[i], start);
          ASSERT_EQ(sample.positions[i], i - start);
        }
        ASSERT_EQ(count, expected_count);
      }
    }
  }
}

TEST(PackedDatasetTest, RefusesASequenceLongerThanTheData) {
  const TemporaryFolder folder;
  Write(folder / "t", {{5, 6, 7, 0}}, 300);
  EXPECT_TRUE(PackedDataset::Open(folder / "t", 3).ok());
  const auto data = PackedDataset::Open(folder / "t", 4);
  EXPECT_EQ(data.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(data.status().message()),
              testing::AllOf(HasSubstr("sequence length of 4 is longer than the data"), HasSubstr("holds 4")));
}

class LoaderTest : public testing::Test {
 protected:
  static constexpr int64_t kLength = 16;
  void SetUp() override {
    Write(folder_ / "t", RandomDocuments(120, 30, 500, 6).documents, 500);
    dataset_ = std::move(*PackedDataset::Open(folder_ / "t", kLength));
  }
  Loader Make(const LoaderOptions& options) { return *Loader::Create(dataset_.get(), options); }

  // All micro-batches of a step; rows in the order (micro, rank, row).
  Owned Step(const Loader& loader, int64_t step, int64_t world, int64_t* count) {
    const int64_t rows = loader.options().micro_batch, micros = loader.MicroBatchesPerStep(world);
    Owned all(0), batch(rows * kLength);
    *count = 0;
    for (int64_t micro = 0; micro < micros; ++micro) {
      for (int64_t rank = 0; rank < world; ++rank) {
        *count +=
            loader.FillMicroBatch({step * loader.options().global_batch, micro, rank, world}, batch.view()).value();
        for (auto [to, from] :
             {std::pair(&all.tokens, &batch.tokens), std::pair(&all.targets, &batch.targets),
              std::pair(&all.positions, &batch.positions), std::pair(&all.segment_start, &batch.segment_start)}) {
          to->insert(to->end(), from->begin(), from->end());
        }
      }
    }
    return all;
  }

  TemporaryFolder folder_;
  std::unique_ptr<PackedDataset> dataset_;
};

TEST_F(LoaderTest, EveryWorldAndMicroBatchSeesTheSameStep) {
  const int64_t global_batch = 12;
  for (int64_t step : {0, 1, 7, 50}) {
    int64_t reference_count = 0;
    const Owned reference =
        Step(Make({.global_batch = global_batch, .micro_batch = 12, .seed = 3}), step, 1, &reference_count);
    for (int64_t world : {1, 2, 3, 4, 5, 8}) {
      for (int64_t micro_batch : {1, 2, 3, 5}) {
        const Loader loader = Make({.global_batch = global_batch, .micro_batch = micro_batch, .seed = 3});
        int64_t count = 0;
        Owned all = Step(loader, step, world, &count);
        EXPECT_EQ(count, reference_count);
        // Beyond the global batch there are only samples that weigh nothing.
        for (size_t i = global_batch * kLength; i < all.tokens.size(); ++i) {
          ASSERT_EQ(all.tokens[i], kPadId);
          ASSERT_EQ(all.targets[i], kIgnoredTarget);
          ASSERT_EQ(all.positions[i], static_cast<int32_t>(i % kLength));
          ASSERT_EQ(all.segment_start[i], 0);
        }
        for (auto* v : {&all.tokens, &all.targets, &all.positions, &all.segment_start}) {
          v->resize(global_batch * kLength);
        }
        EXPECT_TRUE(all == reference) << "step " << step << " world " << world << " micro-batch " << micro_batch;
      }
    }
  }
}

TEST_F(LoaderTest, AnEpochVisitsEveryWindowOnceAndEpochsDiffer) {
  const Loader loader = Make({.global_batch = 4, .micro_batch = 2, .seed = 8});
  const int64_t windows = dataset_->window_count();
  EXPECT_EQ(loader.sample_count(), windows);
  EXPECT_EQ(loader.step_count(), (windows + 3) / 4);
  std::vector<std::vector<int64_t>> order(2);
  for (int64_t s = 0; s < 2 * windows; ++s) order[s / windows].push_back(loader.WindowOfSample(s));
  EXPECT_NE(order[0], order[1]);
  for (const auto& epoch : order) {
    EXPECT_EQ(static_cast<int64_t>(std::set<int64_t>(epoch.begin(), epoch.end()).size()), windows);
  }
  EXPECT_NE(Make({.seed = 9}).WindowOfSample(0) * windows + Make({.seed = 9}).WindowOfSample(1),
            loader.WindowOfSample(0) * windows + loader.WindowOfSample(1));
}

TEST_F(LoaderTest, EvaluationIsFixedAndEnds) {
  const Loader loader = Make({.global_batch = 4, .micro_batch = 3, .seed = 1, .evaluation_samples = 10});
  const Loader other_seed = Make({.global_batch = 4, .micro_batch = 3, .seed = 2, .evaluation_samples = 10});
  EXPECT_EQ(loader.sample_count(), 10);
  EXPECT_EQ(loader.step_count(), 3);
  std::set<int64_t> seen;
  for (int64_t s = 0; s < 12; ++s) {
    EXPECT_EQ(loader.WindowOfSample(s), other_seed.WindowOfSample(s));
    if (s < 10) seen.insert(loader.WindowOfSample(s));
    EXPECT_EQ(loader.WindowOfSample(s) >= 0, s < 10);
  }
  EXPECT_EQ(seen.size(), 10u);
  int64_t count = 0;
  const Owned last = Step(loader, 2, 1, &count);  // samples 8, 9 and four rows without weight
  Owned sample(kLength);
  EXPECT_EQ(count, loader.FillSample(8, sample.view()).value() + loader.FillSample(9, sample.view()).value());
  for (size_t i = 2 * kLength; i < last.targets.size(); ++i) EXPECT_EQ(last.targets[i], kIgnoredTarget);
  EXPECT_EQ(Make({.evaluation_samples = 1 << 30}).sample_count(), dataset_->window_count());
}

TEST_F(LoaderTest, RefusesEmptyBatches) {
  EXPECT_FALSE(Loader::Create(dataset_.get(), {.global_batch = 0}).ok());
  EXPECT_FALSE(Loader::Create(dataset_.get(), {.micro_batch = -1}).ok());
}

TEST(TargetBytesTest, SumsCountedTargets) {
  const std::vector<int32_t> lengths = {0, 0, 1, 4, 7};
  EXPECT_EQ(TargetBytes(std::vector<int32_t>{3, kIgnoredTarget, 4, 0, 2, kIgnoredTarget}, lengths), 12);
}

}  // namespace
}  // namespace angel_ptm
