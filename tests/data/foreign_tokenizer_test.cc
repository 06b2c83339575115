// Tokenizers made elsewhere: their ids, and the datasets and documents that use them.
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "angel_ptm/data/byte_alphabet.h"
#include "angel_ptm/data/patterns/normal_form.h"
#include "angel_ptm/data/prepare.h"
#include "angel_ptm/data/tokenizer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

// The word pattern of Llama 3; Qwen 2 splits digits one by one.
std::string WordPattern(const std::string& digits) {
  return R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)" + digits +
         R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
}

json ByteLevelPart(bool regex) { return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", regex}}; }
json SplitPart(const std::string& pattern, const char* behavior = "Isolated", bool invert = false) {
  return {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", behavior}, {"invert", invert}};
}
json Sequence(const json& rule, bool regex) {
  return {{"type", "Sequence"}, {"pretokenizers", json::array({rule, ByteLevelPart(regex)})}};
}

// A tokenizer.json whose ids are the bytes, a few merges, and the `added` tokens.
json MakeJson(const json& pre_tokenizer, const std::vector<std::string>& added) {
  json vocabulary;
  const auto spell = [](const std::string& bytes) { return ByteAlphabet::Get().Write(bytes); };
  for (int b = 0; b < 256; ++b) vocabulary[spell(std::string(1, static_cast<char>(b)))] = b;
  json merges = json::array();
  const std::vector<std::pair<std::string, std::string>> pairs = {
      {"t", "h"},           {"th", "e"},      {" ", "t"},           {"h", "e"},  {" t", "he"},
      {"1", "2"},           {"12", "3"},      {"i", "n"},           {"in", "g"}, {"\xe4", "\xb8"},
      {"\xe4\xb8", "\xad"}, {"\xe6", "\x96"}, {"\xe6\x96", "\x87"}, {"中", "文"}};
  for (const auto& [left, right] : pairs) {
    merges.push_back(spell(left) + " " + spell(right));
    vocabulary.emplace(spell(left + right), vocabulary.size());
  }
  json tokens = json::array();
  for (const std::string& text : added) {
    tokens.push_back({{"id", vocabulary.size() + tokens.size()}, {"content", text}, {"special", true}});
  }
  return {{"added_tokens", tokens},
          {"pre_tokenizer", pre_tokenizer},
          {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", merges}}}};
}

absl::StatusOr<std::unique_ptr<Tokenizer>> ReadForeign(const json& tokenizer, const std::string& end) {
  return Tokenizer::FromJson(tokenizer.dump(), "x/tokenizer.json", json({{"eos_token", end}}).dump());
}

#define SKIP_WITHOUT_LIBRARIES() \
  if (!HasPatternLibraries()) GTEST_SKIP() << "this build has no PCRE2 and no utf8proc"

const char* const kForeignTexts[] = {"the thing 1234 中文!", "the\n\n  1234the", "cafe\u0301+ \u00e9 <ee><e>><e",
                                     "I'LL 12 ths12"};

void ExpectIds(const json& made, const std::string& end, const std::vector<std::vector<int32_t>>& ids) {
  const auto tokenizer = ReadForeign(made, end);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  for (size_t i = 0; i < ids.size(); ++i) EXPECT_EQ((*tokenizer)->Encode(kForeignTexts[i]), ids[i]) << kForeignTexts[i];
}

// The ids in these tests are those of Hugging Face's tokenizers 0.23.3 for the same files;
// tests/parity/foreign_tokenizers_parity.py compares more of them.
TEST(ForeignTokenizerTest, WordsOfGpt2) {
  ExpectIds(MakeJson(ByteLevelPart(true), {"<|endoftext|>"}), "<|endoftext|>",
            {{257, 32, 256, 264, 32, 262, 52, 32, 269, 33},
             {257, 10, 10, 32, 32, 262, 52, 257},
             {99, 97, 102, 101, 204, 129, 43, 32, 195, 169, 32, 60, 101, 101, 62, 60, 101, 62, 62, 60, 101},
             {73, 39, 76, 76, 32, 261, 32, 256, 115, 261}});
}

// U+180E is not white space, U+0085 is.
TEST(ForeignTokenizerTest, WhiteSpaceIsUnicodes) {
  SKIP_WITHOUT_LIBRARIES();
  const auto tokenizer = ReadForeign(MakeJson(Sequence(SplitPart(R"(\s|\\s)"), false), {"<e>"}), "<e>");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->Encode("th\u180eth"), (std::vector<int32_t>{256, 225, 160, 142, 256}));
  EXPECT_EQ((*tokenizer)->Encode("t\u0085h t"), (std::vector<int32_t>{116, 194, 133, 104, 32, 116}));
  EXPECT_EQ((*tokenizer)->Encode("i\\sn"), (std::vector<int32_t>{105, 92, 115, 110}));
}

TEST(ForeignTokenizerTest, WordsThatAreTokensAsAWhole) {
  SKIP_WITHOUT_LIBRARIES();
  json made = MakeJson(Sequence(SplitPart(WordPattern(R"(\p{N}{1,3})")), false), {});
  made["model"]["vocab"]["'LL"] = 270;
  made["model"]["vocab"]["caf"] = 271;
  made["model"]["ignore_merges"] = true;
  made["added_tokens"] = json::array({{{"id", 272}, {"content", "<|end|>"}, {"special", true}}});
  ExpectIds(made, "<|end|>",
            {{257, 32, 256, 264, 32, 262, 52, 32, 269, 33},
             {257, 10, 10, 32, 32, 262, 52, 257},
             {99, 97, 102, 101, 204, 129, 43, 32, 195, 169, 32, 60, 101, 101, 62, 60, 101, 62, 62, 60, 101},
             {73, 270, 32, 261, 32, 256, 115, 261}});
}

TEST(ForeignTokenizerTest, NormalFormAndTokensInIt) {
  SKIP_WITHOUT_LIBRARIES();
  json made = MakeJson(Sequence(SplitPart(WordPattern(R"(\p{N})")), false), {"<e>", "<ee>", "\u00e9+"});
  made["normalizer"] = {{"type", "NFC"}};
  made["added_tokens"][2]["normalized"] = true;
  made["added_tokens"][2]["special"] = false;
  ExpectIds(made, "<e>",
            {{257, 32, 256, 264, 32, 49, 50, 51, 52, 32, 269, 33},
             {257, 10, 10, 32, 32, 49, 50, 51, 52, 257},
             {99, 97, 102, 272, 32, 195, 169, 32, 271, 270, 62, 60, 101},
             {73, 39, 76, 76, 32, 49, 50, 32, 256, 115, 49, 50}});
  const auto tokenizer = ReadForeign(made, "<e>");
  EXPECT_EQ((*tokenizer)->Decode((*tokenizer)->Encode("e\u0301+<e>x")), "\u00e9+x");
}

TEST(ForeignTokenizerTest, PartsThatAreLeftOutAndDigits) {
  SKIP_WITHOUT_LIBRARIES();
  ExpectIds(MakeJson(Sequence(SplitPart("[a-z]+| ", "Removed", true), false), {"<e>"}), "<e>",
            {{257, 32, 256, 264, 32, 32}, {257, 32, 32, 257}, {99, 97, 102, 101, 32, 32, 101, 101, 270, 101}});
  ExpectIds(MakeJson(Sequence({{"type", "Digits"}, {"individual_digits", true}}, true), {"<e>"}), "<e>",
            {{257, 32, 256, 264, 32, 49, 50, 51, 52, 32, 269, 33},
             {257, 10, 10, 32, 32, 49, 50, 51, 52, 257},
             {99, 97, 102, 101, 204, 129, 43, 32, 195, 169, 32, 60, 101, 101, 62, 270, 62, 60, 101},
             {73, 39, 76, 76, 32, 49, 50, 32, 256, 115, 49, 50}});
}

TEST(ForeignTokenizerTest, NamesWhatItCannotUse) {
  const json fine = MakeJson(ByteLevelPart(true), {"<e>"});
  const auto edited = [&](const std::string& pointer, const json& value) {
    json made = fine;
    made[json::json_pointer(pointer)] = value;
    return made;
  };
  const json template_of_unknown = {{"type", "TemplateProcessing"},
                                    {"single", {{{"SpecialToken", {{"id", "<b>"}}}}, {{"Sequence", {{"id", "A"}}}}}}};
  const std::pair<json, std::string> cases[] = {
      {edited("/normalizer", {{"type", "NFKC"}}),
       "the type of /normalizer should be \"NFC\", or it unset, got \"NFKC\""},
      {edited("/pre_tokenizer", {{"type", "Whitespace"}}), "/pre_tokenizer should be \"ByteLevel\" or end in it"},
      {edited("/pre_tokenizer/add_prefix_space", true), "add_prefix_space should be unset, got true"},
      {edited("/pre_tokenizer", Sequence({{"type", "Punctuation"}}, true)),
       "\"Split\" or \"Digits\", got \"Punctuation\""},
      {edited("/added_tokens/0/lstrip", true), "lstrip of token \"<e>\" should be unset, got true"},
      {edited("/added_tokens/0/id", 7), "should be of its own, got 7"},
      {edited("/post_processor", {{"type", "BertProcessing"}}), "a part of /post_processor should be"},
      {edited("/post_processor", template_of_unknown), "a SpecialToken of /post_processor should be one of"},
  };
  for (const auto& [made, message] : cases) {
    EXPECT_THAT(std::string(ReadForeign(made, "<e>").status().message()), HasSubstr(message));
  }
  EXPECT_THAT(std::string(ReadForeign(fine, "<end>").status().message()),
              HasSubstr("the eos_token of tokenizer_config.json, which ends every document, should be one of "
                        "/added_tokens, got \"<end>\""));
  EXPECT_THAT(std::string(Tokenizer::LoadFolder("/nonexistent").status().message()), HasSubstr("/nonexistent"));
  if (!HasPatternLibraries()) return;
  EXPECT_THAT(
      std::string(ReadForeign(edited("/pre_tokenizer", Sequence(SplitPart("(a"), true)), "<e>").status().message()),
      HasSubstr("the pattern \"(a\" of /pre_tokenizer: missing closing parenthesis"));
  EXPECT_THAT(std::string(ReadForeign(edited("/pre_tokenizer", Sequence(SplitPart("a", "MergedWithNext"), true)), "<e>")
                              .status()
                              .message()),
              HasSubstr("should be \"Isolated\" or \"Removed\", got \"MergedWithNext\""));
}

// Documents begin as the tokenizer says, its end token ends them wherever its text appears, and the folder contains its
// files.
TEST(ForeignTokenizerTest, MakesADataset) {
  const TemporaryFolder folder;
  json made = MakeJson(ByteLevelPart(true), {"<e>", "<b>"});
  made["post_processor"] = {{"type", "Sequence"},
                            {"processors",
                             {{{"type", "ByteLevel"}},
                              {{"type", "TemplateProcessing"},
                               {"single", {{{"SpecialToken", {{"id", "<b>"}}}}, {{"Sequence", {{"id", "A"}}}}}}}}}};
  const std::string config = R"({"eos_token": {"content": "<e>"}, "pad_token": "<b>"})";
  std::filesystem::create_directories(folder / "model");
  Spill(folder / "model/tokenizer.json", made.dump());
  Spill(folder / "model/tokenizer_config.json", config);
  Spill(folder / "text/a.txt", "the<e>in\n<|endoftext|>\n12");
  const auto report = Prepare({.inputs = {folder / "text"},
                               .output = folder / "set",
                               .tokenizer = folder / "model",
                               .validation_fraction = 0,
                               .threads = 1});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->manifest.train.documents, 3);
  EXPECT_EQ(Slurp(folder / "set/tokenizer.json"), made.dump());
  EXPECT_EQ(Slurp(folder / "set/tokenizer_config.json"), config);

  const auto dataset = OpenTextDataset(folder / "set", 9);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  EXPECT_EQ(dataset->tokenizer->pad_id(), 271);
  EXPECT_EQ(dataset->train->file().end_of_text_id(), 270);
  std::vector<int32_t> tokens(9), targets(9), positions(9), segment_start(9);
  EXPECT_EQ(dataset->train->FillWindow(0, {tokens, targets, positions, segment_start}).value(), 7);
  EXPECT_THAT(tokens, ElementsAre(271, 257, 270, 271, 263, 10, 270, 271, 261));
  EXPECT_THAT(targets, ElementsAre(257, 270, -1, 263, 10, 270, -1, 261, 270));
  EXPECT_THAT(segment_start, ElementsAre(0, 0, 0, 3, 3, 3, 3, 7, 7));
}

}  // namespace
}  // namespace angel_ptm
