// From text folders to datasets: statistics, errors, what a failure leaves.
#include "angel_ptm/data/prepare.h"

#include <algorithm>
#include <cmath>

#include "angel_ptm/base/checksum.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/data/test_support.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Prose-like lines of a small vocabulary, with an occasional empty line.
std::string Prose(int lines, int seed, const std::vector<std::string>& words) {
  std::mt19937 random(seed);
  std::string text;
  for (int i = 0; i < lines; ++i) {
    for (int w = 0; w < 9; ++w) text += words[random() % words.size()] + (w < 8 ? " " : "\n");
    if (random() % 6 == 0) text += "\n";
  }
  return text;
}

class PrepareTest : public testing::Test {
 protected:
  void SetUp() override {
    Spill(folder_ / "text/en/a.txt", Prose(3000, 1, {"the", "page", "moves", "from", "host", "memory", "and", "back"}));
    Spill(folder_ / "text/zh/b.txt", Prose(2000, 2, {"页面", "在设备和主机之间", "移动", "，模型", "训练。"}));
    Spill(folder_ / "text/.hidden/c.txt", "not read");
    options_.inputs = {folder_ / "text"};
    options_.output = folder_ / "set";
    options_.vocabulary_size = 300;
    options_.validation_fraction = 0.05;
    options_.threads = 2;
  }
  std::vector<std::string> OutputFiles() {
    std::vector<std::string> names;
    if (!std::filesystem::exists(options_.output)) return names;
    for (const auto& entry : std::filesystem::directory_iterator(options_.output)) {
      names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }
  std::string ErrorOf(const PrepareOptions& options) {
    const auto report = Prepare(options);
    EXPECT_FALSE(report.ok());
    return std::string(report.status().message());
  }

  TemporaryFolder folder_;
  PrepareOptions options_;
};

std::vector<int32_t> AllTokens(const std::string& path) {
  const auto file = TokenFile::Open(path);
  EXPECT_TRUE(file.ok()) << file.status();
  std::vector<int32_t> tokens((*file)->token_count());
  EXPECT_TRUE((*file)->Read(0, tokens).ok());
  return tokens;
}

TEST_F(PrepareTest, EveryByteIsInOneSplitOnce) {
  const auto report = Prepare(options_);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(OutputFiles(), ElementsAre("dataset.json", "tokenizer.json", "tokenizer_config.json", "train.tokens",
                                         "validation.tokens"));
  const auto dataset = OpenTextDataset(options_.output, 64);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  const std::string en = Slurp(folder_ / "text/en/a.txt"), zh = Slurp(folder_ / "text/zh/b.txt");
  const std::string train = dataset->tokenizer->Decode(AllTokens(options_.output + "/train.tokens"));
  const std::string validation = dataset->tokenizer->Decode(AllTokens(options_.output + "/validation.tokens"));
  // Each file's tail is held out.
  const size_t en_train = train.find("页面") == std::string::npos ? 0 : train.find("页面");
  EXPECT_EQ(train.size() + validation.size(), en.size() + zh.size());
  EXPECT_TRUE(train.starts_with(en.substr(0, en.size() * 9 / 10)));
  EXPECT_GT(en_train, en.size() * 9 / 10);
  EXPECT_TRUE(validation.ends_with(zh.substr(zh.size() * 97 / 100)));
  EXPECT_NEAR(static_cast<double>(validation.size()), 0.05 * static_cast<double>(en.size() + zh.size()),
              0.01 * static_cast<double>(en.size() + zh.size()));
  const DatasetManifest& m = report->manifest;
  EXPECT_EQ(m.train.bytes, static_cast<int64_t>(train.size()));
  EXPECT_EQ(m.validation.bytes, static_cast<int64_t>(validation.size()));
  EXPECT_EQ(m.train_labels.at("en").bytes + m.train_labels.at("zh").bytes, m.train.bytes);
  EXPECT_EQ(m.train.tokens, dataset->train->file().token_count());
  EXPECT_EQ(m.validation.documents, dataset->validation->file().document_count());
  EXPECT_EQ(dataset->manifest.ToJson(), m.ToJson());
  EXPECT_EQ(m.vocabulary_size, 300);
}

TEST_F(PrepareTest, ReportsTheUnigramEntropyOfTheValidationTokens) {
  const auto report = Prepare(options_);
  ASSERT_TRUE(report.ok()) << report.status();
  std::map<int32_t, double> counts;
  const std::vector<int32_t> tokens = AllTokens(options_.output + "/validation.tokens");
  for (int32_t token : tokens) counts[token] += 1;
  // The mean negative log-likelihood under the tokens' own frequencies.
  double nats = 0;
  for (int32_t token : tokens) nats -= std::log(counts[token] / static_cast<double>(tokens.size()));
  EXPECT_NEAR(report->manifest.validation_unigram_entropy, nats / static_cast<double>(tokens.size()), 1e-9);
  EXPECT_THAT(report->ToString(), testing::AllOf(HasSubstr("unigram entropy of the validation tokens"),
                                                 HasSubstr("nats per token"), HasSubstr("zh")));
  EXPECT_DOUBLE_EQ(UnigramEntropy({1, 1, 0, 2}), 1.5 * std::log(2.0));
  EXPECT_EQ(UnigramEntropy({}), 0);
}

TEST_F(PrepareTest, ThreadsDoNotChangeAByte) {
  ASSERT_TRUE(Prepare(options_).ok());
  std::vector<std::string> one;
  for (const std::string& name : OutputFiles()) one.push_back(Slurp(options_.output + "/" + name));
  options_.output = folder_ / "set5";
  options_.threads = 5;
  ASSERT_TRUE(Prepare(options_).ok());
  std::vector<std::string> five;
  for (const std::string& name : OutputFiles()) five.push_back(Slurp(options_.output + "/" + name));
  EXPECT_EQ(one, five);
}

TEST_F(PrepareTest, TrainsTheTokenizerOnASampleOfLargeText) {
  options_.tokenizer_text_bytes_max = 60000;
  options_.document_bytes_max = 4096;
  ASSERT_TRUE(Prepare(options_).ok());
  const std::string sampled = Slurp(folder_ / "set/tokenizer.json");
  ASSERT_TRUE(Prepare(options_).ok());
  EXPECT_EQ(Slurp(folder_ / "set/tokenizer.json"), sampled);
  options_.seed = 1;
  ASSERT_TRUE(Prepare(options_).ok());
  EXPECT_NE(Slurp(folder_ / "set/tokenizer.json"), sampled);
}

TEST_F(PrepareTest, CountsIllFormedText) {
  const std::string other = "a word without any";
  Spill(folder_ / "text/en/bad.txt", Prose(400, 5, {"a\xff", other, other, other, other, other, other, other}));
  Spill(folder_ / "text/en/good.txt", Prose(400, 5, {"a\xc3\xa9", "b", "c"}) + "\xc3");
  const auto report = Prepare(options_);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_GT(report->manifest.replaced_sequences, 300);
  const std::string bad = std::to_string(report->manifest.replaced_sequences - 1);
  EXPECT_THAT(report->ToString(),
              HasSubstr("ill-formed UTF-8 sequences were read as U+FFFD, most of them in:\n  " +
                        (folder_ / "text/en/bad.txt: ") + bad + "\n  " + (folder_ / "text/en/good.txt: 1\n")));
}

std::string Utf16(const std::string& ascii, bool big_endian) {
  std::string text;
  for (const char c : ascii) text += big_endian ? std::string{'\0', c} : std::string{c, '\0'};
  return text;
}

// Text that is not UTF-8 would be trained on as garbage.
TEST_F(PrepareTest, RefusesFilesInAnotherEncodingAllAtOnce) {
  const std::string prose = Prose(100, 4, {"the", "page", "moves"});
  std::string gbk, latin1;
  for (int i = 0; i < 300; ++i) gbk += "\xD2\xB3\xC3\xE6\xD4\xDA moves\n";
  for (int i = 0; i < 300; ++i)
    latin1 +=
        "une page d\xE9plac\xE9"
        "e vers la m\xE9moire\n";
  const auto refusal = [&](const std::string& name, const std::string& bytes) {
    Spill(folder_ / ("text/en/" + name), bytes);
    const std::string error = ErrorOf(options_);
    std::filesystem::remove(folder_ / ("text/en/" + name));
    return error;
  };
  EXPECT_THAT(refusal("le.txt", "\xFF\xFE" + Utf16(prose, false)), HasSubstr("text/en/le.txt is UTF-16 text"));
  EXPECT_THAT(refusal("be.txt", "\xFE\xFF" + Utf16(prose, true)), HasSubstr("text/en/be.txt is UTF-16 text"));
  EXPECT_THAT(refusal("bare.txt", Utf16(prose, false)),
              HasSubstr("bare.txt is UTF-16 text without a mark, or no text:"));
  EXPECT_THAT(refusal("bare.txt", Utf16(prose, true)),
              HasSubstr("bare.txt is UTF-16 text without a mark, or no text:"));
  EXPECT_THAT(refusal("gbk.txt", gbk),
              HasSubstr("gbk.txt is text in another encoding (GB18030, UTF-16, Latin-1, ...)"));
  EXPECT_THAT(refusal("latin1.txt", latin1), HasSubstr("latin1.txt is text in another encoding"));
  EXPECT_THAT(refusal("image.png", "\x89PNG\r\n\x1a\n and more"), HasSubstr("image.png is a PNG image"));
  Spill(folder_ / "text/zh/gbk.txt", gbk);
  EXPECT_THAT(
      refusal("image.png", "\x89PNG\r\n\x1a\n and more"),
      testing::AllOf(HasSubstr("the input should be UTF-8 text: convert these files (iconv -f ENCODING -t UTF-8) "
                               "or take them out, or set data.prepare.images.source=FOLDER to prepare images: " +
                               (folder_ / "text/en/image.png is a PNG image; ")),
                     HasSubstr("text/zh/gbk.txt is text in another encoding")));
  EXPECT_THAT(OutputFiles(), ElementsAre());
}

TEST_F(PrepareTest, DropsTheMarkOfUtf8) {
  ASSERT_TRUE(Prepare(options_).ok());
  const std::vector<int32_t> tokens = AllTokens(options_.output + "/train.tokens");
  for (const char* name : {"text/en/a.txt", "text/zh/b.txt"}) {
    Spill(folder_ / name, "\xEF\xBB\xBF" + Slurp(folder_ / name));
  }
  ASSERT_TRUE(Prepare(options_).ok());
  EXPECT_EQ(AllTokens(options_.output + "/train.tokens"), tokens);
}

TEST_F(PrepareTest, AVocabularyThatTheTextDoesNotSupportIsWhatItSupports) {
  options_.vocabulary_size = 100000;
  const auto report = Prepare(options_);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_LT(report->manifest.vocabulary_size, 2000);
  const std::string size = std::to_string(report->manifest.vocabulary_size);
  EXPECT_THAT(report->ToString(),
              HasSubstr("the text supports a vocabulary of " + size +
                        " tokens, less than data.prepare.vocabulary_size = 100000: the dataset has " + size));
  EXPECT_TRUE(OpenTextDataset(options_.output, 64).ok());
  options_.vocabulary_size = 300;
  EXPECT_THAT(Prepare(options_)->ToString(), testing::Not(HasSubstr("the text supports")));
}

// Files of a single line cannot be divided: whole files are held out, or the reason is reported.
TEST_F(PrepareTest, HoldsOutWholeFilesOfOneLine) {
  std::filesystem::remove_all(folder_ / "text");
  for (int i = 0; i < 6; ++i) {
    std::string line = Prose(400, i, {"one", "line", "of", "many", "words"});
    std::replace(line.begin(), line.end(), '\n', ' ');
    Spill(folder_ / ("text/f" + std::to_string(i)), i % 2 == 0 ? line : line + "\n");
  }
  options_.validation_fraction = 0.1;
  const auto report = Prepare(options_);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->manifest.train.documents, 5);
  EXPECT_EQ(report->manifest.validation.documents, 1);
  for (int i = 1; i < 6; ++i) std::filesystem::remove(folder_ / ("text/f" + std::to_string(i)));
  EXPECT_THAT(ErrorOf(options_),
              HasSubstr("is too small to hold out a fraction of 0.1 for validation: 1 of its files end "
                        "in one long line, and such files are held out as a whole; raise"));
}

TEST_F(PrepareTest, SaysWhatIsWrongAndLeavesNothing) {
  PrepareOptions o = options_;
  o.inputs = {folder_ / "nowhere"};
  EXPECT_THAT(ErrorOf(o), HasSubstr("nowhere does not exist"));
  Spill(folder_ / "empty/x.txt", "");
  o.inputs = {folder_ / "empty"};
  EXPECT_THAT(ErrorOf(o), HasSubstr("holds no text"));
  o.inputs = {};
  EXPECT_THAT(ErrorOf(o), HasSubstr("no input"));
  o = options_;
  o.vocabulary_size = 100000;
  o.vocabulary_is_exact = true;
  EXPECT_THAT(ErrorOf(o), testing::AllOf(HasSubstr("100000 tokens"), HasSubstr("supports only")));
  o.vocabulary_size = 257;
  EXPECT_THAT(ErrorOf(o), HasSubstr("at least 258"));
  o = options_;
  o.validation_fraction = 0.7;
  EXPECT_THAT(ErrorOf(o), HasSubstr("from 0 to 0.5"));
  Spill(folder_ / "tiny/x.txt", "ab ab ab ab\n");
  o = options_;
  o.inputs = {folder_ / "tiny"};
  o.vocabulary_size = 259;
  EXPECT_THAT(ErrorOf(o), HasSubstr("too small to hold out"));
  EXPECT_THAT(OutputFiles(), ElementsAre());
}

TEST_F(PrepareTest, RefusesAnOutputThatItWouldReadTheNextTime) {
  std::filesystem::create_symlink("text/en", folder_ / "link");
  for (const char* output : {"text", "text/", "text/set", "text/none/below", "set/../text/./set", "link/set"}) {
    options_.output = folder_ / output;
    EXPECT_THAT(ErrorOf(options_), testing::AllOf(HasSubstr("the output folder " + options_.output + " should lie"),
                                                  HasSubstr("outside the input " + (folder_ / "text"))));
  }
  EXPECT_FALSE(std::filesystem::exists(folder_ / "text/set"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "text/none"));
  // An output beside the input, and one in a folder that is not searched.
  for (const char* output : {"text2", "text/.set"}) {
    options_.output = folder_ / output;
    EXPECT_TRUE(Prepare(options_).ok()) << output;
  }
}

// `text` with its only occurrence of `from` replaced.
std::string Replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST_F(PrepareTest, AFailedWriteKeepsTheEarlierDataset) {
  ASSERT_TRUE(Prepare(options_).ok());
  const std::vector<std::string> names = OutputFiles();
  options_.validation_fraction = 0.1;
  {
    const FileSizeLimit limit(16384);
    EXPECT_THAT(ErrorOf(options_), HasSubstr("cannot write " + options_.output));
  }
  EXPECT_EQ(OutputFiles(), names);
  const auto dataset = OpenTextDataset(options_.output, 64);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  EXPECT_EQ(dataset->manifest.validation_fraction, 0.05);
}

// The disk becomes full after the token files and before the tokenizer.
TEST_F(PrepareTest, AFailedLastWriteKeepsTheEarlierDataset) {
  std::mt19937 random(6);
  std::string text;
  for (const std::string& word : RandomWords(&random, 700, 4, "abcdef")) text += word + " ";
  Spill(folder_ / "short/a.txt", text);
  options_.inputs = {folder_ / "short"};
  options_.validation_fraction = 0;
  options_.vocabulary_size = 380;
  const auto first = Prepare(options_);
  ASSERT_TRUE(first.ok()) << first.status();
  const std::vector<std::string> names = OutputFiles();
  const auto tokens = std::filesystem::file_size(options_.output + "/train.tokens");
  const auto tokenizer = std::filesystem::file_size(options_.output + "/tokenizer.json");
  ASSERT_LT(tokens, tokenizer);
  options_.seed = 9;
  {
    const FileSizeLimit limit((tokens + tokenizer) / 2);
    EXPECT_THAT(ErrorOf(options_), HasSubstr("cannot write " + options_.output + "/.unfinished/tokenizer.json.tmp"));
  }
  EXPECT_EQ(OutputFiles(), names);
  const auto dataset = OpenTextDataset(options_.output, 64);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  EXPECT_EQ(dataset->manifest.seed, 0u);
}

// Refuses with the numbers where a control group would kill the process.
TEST_F(PrepareTest, StaysWithinItsMemoryOrSaysWhatItNeeds) {
  ASSERT_TRUE(Prepare(options_).ok());
  const std::string train = Slurp(options_.output + "/train.tokens");
  options_.memory_bytes_max = int64_t{40} << 20;
  EXPECT_THAT(ErrorOf(options_),
              testing::AllOf(HasSubstr("preparing needs "),
                             HasSubstr("this machine or control group has 40.0 MiB: raise the limit")));
  options_.memory_bytes_max = int64_t{120} << 20;  // too little for four encoders
  options_.threads = 4;
  ASSERT_TRUE(Prepare(options_).ok());
  EXPECT_EQ(Slurp(options_.output + "/train.tokens"), train);
  std::mt19937 random(2);
  std::string text;
  for (const std::string& word : RandomWords(&random, 200000, 14, "abcdefghijklmnopqrst")) text += word + "\n";
  Spill(folder_ / "text/en/words.txt", text);
  options_.memory_bytes_max = int64_t{100} << 20;
  EXPECT_THAT(ErrorOf(options_), testing::AllOf(HasSubstr(" of memory to train a tokenizer on 1."),
                                                HasSubstr("MiB of different words, this machine or")));
}

TEST_F(PrepareTest, WithoutValidationText) {
  options_.validation_fraction = 0;
  const auto report = Prepare(options_);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->manifest.validation.tokens, 0);
  const auto dataset = OpenTextDataset(options_.output, 64);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  EXPECT_EQ(dataset->validation, nullptr);
}

// The manifest with its checksum corrected after a change.
std::string Resealed(std::string manifest) {
  const size_t body = manifest.find('\n') + 1;
  return manifest.replace(14, 16, ChecksumText(Xxh64(std::string_view(manifest).substr(body))));
}

TEST_F(PrepareTest, NoByteOfAnyFileChangesUnseen) {
  ASSERT_TRUE(Prepare(options_).ok());
  std::mt19937 random(3);
  for (const std::string& name : OutputFiles()) {
    const std::string good = Slurp(options_.output + "/" + name);
    // Every byte of the small files' beginning, then a sample of the rest.
    for (size_t at = 0; at < good.size(); at += at < 80 ? 1 : 1 + random() % (good.size() / 4)) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << random() % 8));
      Spill(options_.output + "/" + name, bad);
      ASSERT_FALSE(OpenTextDataset(options_.output, 64).ok()) << name << ", byte " << at;
    }
    Spill(options_.output + "/" + name, good.substr(0, good.size() / 2));
    ASSERT_FALSE(OpenTextDataset(options_.output, 64).ok()) << name;
    Spill(options_.output + "/" + name, good);
  }
  EXPECT_TRUE(OpenTextDataset(options_.output, 64).ok());
}

TEST_F(PrepareTest, OpeningChecksThatFilesBelongTogether) {
  ASSERT_TRUE(Prepare(options_).ok());
  const auto message = [&] { return std::string(OpenTextDataset(options_.output, 64).status().message()); };
  const std::string tokenizer = Slurp(folder_ / "set/tokenizer.json");
  Spill(folder_ / "set/tokenizer.json", tokenizer + "\n");
  EXPECT_THAT(message(), testing::AllOf(HasSubstr("set/tokenizer.json does not belong"), HasSubstr("expected")));
  Spill(folder_ / "set/tokenizer.json", tokenizer);
  const std::string train = Slurp(folder_ / "set/train.tokens");
  Spill(folder_ / "set/train.tokens", Slurp(folder_ / "set/validation.tokens"));
  EXPECT_THAT(message(), HasSubstr("set/train.tokens does not belong"));
  Spill(folder_ / "set/train.tokens", train.substr(0, train.size() - 1));
  EXPECT_THAT(message(), HasSubstr("set/train.tokens is truncated"));
  Spill(folder_ / "set/train.tokens", train);
  const std::string manifest = Slurp(folder_ / "set/dataset.json");
  Spill(folder_ / "set/dataset.json", manifest.substr(0, manifest.size() / 2));
  EXPECT_THAT(message(), HasSubstr("set/dataset.json is not the description"));
  const std::string deep = std::string(100000, '[') + std::string(100000, ']');
  Spill(folder_ / "set/dataset.json", Resealed(Replaced(manifest, "\"version\": 2", "\"version\": " + deep)));
  EXPECT_THAT(message(), HasSubstr("nests deeper than 64 levels"));
  Spill(folder_ / "set/dataset.json", Resealed(Replaced(manifest, "\"version\": 2", "\"version\": [1]")));
  EXPECT_THAT(message(), HasSubstr("its format version should be from 1 to 2, got array"));
  Spill(folder_ / "set/dataset.json", Resealed(Replaced(manifest, "\"version\": 2", "\"version\": 1")));
  EXPECT_THAT(message(), HasSubstr("its first line should hold a checksum exactly from version 2 on"));
  Spill(folder_ / "set/dataset.json", Replaced(manifest, "\"seed\": 0", "\"seed\": 1"));
  EXPECT_THAT(message(), HasSubstr("set/dataset.json is not the description of a prepared dataset: it is damaged"));
  const auto with_vocabulary = [&](const std::string& size) {
    return Resealed(Replaced(manifest, "\"vocabulary_size\": 300", "\"vocabulary_size\": " + size));
  };
  Spill(folder_ / "set/dataset.json", with_vocabulary("301"));
  EXPECT_THAT(message(), HasSubstr("has a vocabulary_size of 301, but " + (folder_ / "set/tokenizer.json has 300")));
  Spill(folder_ / "set/dataset.json", with_vocabulary("4294967596"));  // 300 in 32 bits
  EXPECT_THAT(message(), HasSubstr("vocabulary_size should be from 258 to 2147483647, got 4294967596"));
  Spill(folder_ / "set/dataset.json", manifest);
  const std::string config = Slurp(folder_ / "set/tokenizer_config.json");
  Spill(folder_ / "set/tokenizer_config.json", Replaced(config, "<|endoftext|>", "<|eNdoftext|>"));
  EXPECT_THAT(message(), HasSubstr("set/tokenizer_config.json does not belong to its folder's dataset.json"));
  std::filesystem::remove(folder_ / "set/tokenizer_config.json");
  EXPECT_THAT(message(), HasSubstr("set/tokenizer_config.json: No such file"));
  std::filesystem::remove(folder_ / "set/dataset.json");
  EXPECT_THAT(message(), HasSubstr("is not a finished dataset"));
}

}  // namespace
}  // namespace angel_ptm
