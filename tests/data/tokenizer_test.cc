// Text handling, round trips, tokenizer.json and its errors.
#include "angel_ptm/data/tokenizer.h"

#include <algorithm>

#include "angel_ptm/base/checksum.h"
#include "angel_ptm/data/utf8.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/data/test_support.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kText[] =
    "The quick brown fox; the lazy dog. The end of the story, the end.\n\n大型语言模型的训练，语言模型的数据。\n"
    "def train(self):\n    return self.model.train(self.data)\n";

std::unique_ptr<Tokenizer> SmallTokenizer() {
  WordCounter counter;
  counter.Add(kText);
  return Tokenizer::FromMerges(*TrainBpe(counter.counts(), {.merges = 25}));
}

std::vector<std::string> Words(std::string_view text) {
  Pretokenizer cursor;
  cursor.Reset(text);
  std::vector<std::string> words;
  for (auto word = cursor.Next(); !word.empty(); word = cursor.Next()) words.push_back(std::string(word));
  return words;
}

TEST(Utf8Test, ReplacesMaximalIllFormedSubsequences) {
  const std::string r = "\xEF\xBF\xBD";
  const std::pair<std::string, std::string> cases[] = {
      {"plain", "plain"},
      {"\xE4\xB8\xAD\xF0\x9F\x98\x80", "\xE4\xB8\xAD\xF0\x9F\x98\x80"},
      {"a\x80z", "a" + r + "z"},
      {"\xC3(", r + "("},
      {"\xE2\x82", r},              // truncated: one
      {"\xF0\x9F\x98", r},          // truncated: one
      {"\xF0\x9F\x98z", r + "z"},   // one
      {"\xED\xA0\x80", r + r + r},  // a surrogate: A0 cannot follow ED
      {"\xC0\xAF", r + r},          // overlong
      {"\xF4\x90\x80\x80", r + r + r + r},
      {"\xE0\x80\x80", r + r + r},
      {"\xFF", r},
  };
  for (const auto& [input, expected] : cases) {
    int64_t replaced = 0;
    EXPECT_EQ(ReplaceInvalidUtf8(input, &replaced), expected);
    EXPECT_EQ(replaced == 0, input == expected);
    EXPECT_EQ(ValidUtf8Prefix(input) == input.size(), input == expected);
  }
}

TEST(Utf8Test, CodePointsRoundTrip) {
  for (uint32_t c : {0x0u, 0x41u, 0x7Fu, 0x80u, 0x7FFu, 0x800u, 0xD7FFu, 0xE000u, 0xFFFFu, 0x10000u, 0x10FFFFu}) {
    std::string text;
    AppendUtf8(c, &text);
    EXPECT_EQ(ValidUtf8Prefix(text), text.size());
    size_t at = 0;
    EXPECT_EQ(NextCodePoint(text, &at), c);
    EXPECT_EQ(at, text.size());
  }
}

TEST(PretokenizerTest, CutsLikeGpt2) {
  EXPECT_THAT(Words("Hello world  foo"), ElementsAre("Hello", " world", " ", " foo"));
  EXPECT_THAT(Words("it's I'LL 12ab"), ElementsAre("it", "'s", " I", "'", "LL", " 12", "ab"));
  EXPECT_THAT(Words("a \n\n b\r\n"), ElementsAre("a", " \n\n", " b", "\r\n"));
  EXPECT_THAT(Words("中文，abc中 1"), ElementsAre("中文", "，", "abc中", " 1"));
  // NBSP and the ideographic space are white space; U+180E (Mongolian vowel separator) is not.
  EXPECT_THAT(Words("a\u00a0b\u3000"), ElementsAre("a", "\u00a0", "b", "\u3000"));
  EXPECT_THAT(Words("\u180e!"), ElementsAre("\u180e!"));
  EXPECT_THAT(Words(""), ElementsAre());
}

// How Hugging Face tokenizers 0.23.3 classifies every code point: L forms one word after a letter, N after a digit, O
// after another character; S does not. It knows Unicode 16: 4,814 characters of CJK extensions H and I are letters.
TEST(PretokenizerTest, ClassesOfAllCodePoints) {
  const auto one_word = [](char first, const std::string& character) {
    Pretokenizer words;
    const std::string text = first + character;
    words.Reset(text);
    return words.Next().size() == text.size();
  };
  std::string classes;
  for (uint32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string character;
    AppendUtf8(c, &character);
    classes += one_word('a', character) ? 'L' : one_word('1', character) ? 'N' : one_word('!', character) ? 'O' : 'S';
  }
  EXPECT_EQ(std::count(classes.begin(), classes.end(), 'L'), 141028);
  EXPECT_EQ(std::count(classes.begin(), classes.end(), 'N'), 1911);
  EXPECT_EQ(std::count(classes.begin(), classes.end(), 'S'), 25);
  EXPECT_EQ(ChecksumText(Xxh64(classes)), "0f4840ade62e2bd6");
  EXPECT_THAT(Words("a\U00031350\U0002EBF0中\U000323B0"), ElementsAre("a\U00031350\U0002EBF0中", "\U000323B0"));
}

TEST(TokenizerTest, RoundTripsAndRepairsIllFormedText) {
  const auto tokenizer = SmallTokenizer();
  EXPECT_EQ(tokenizer->vocabulary_size(), kVocabularySizeMin + 25);
  std::mt19937 random(3);
  std::vector<std::string> texts = {kText, "", " ", "😀\r\n\u00a0\u3000x", std::string("\0a", 2)};
  for (const std::string& text : RandomWords(&random, 50, 300, "aeht \n'1.\xe4\xb8\xad\xff")) texts.push_back(text);
  for (const std::string& text : texts) {
    EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(text)), ReplaceInvalidUtf8(text));
  }
  EXPECT_LT(tokenizer->Encode(kText).size(), sizeof(kText) * 3 / 4);
  // A part of a character decodes to its bytes.
  const std::vector<int32_t> ids = tokenizer->Encode("😀");
  EXPECT_EQ(tokenizer->Decode(std::span(ids).first(1)), "\xF0");
}

TEST(TokenizerTest, SpecialTokensInText) {
  const auto tokenizer = SmallTokenizer();
  EXPECT_THAT(tokenizer->Encode("<|endoftext|><|pad|>"), ElementsAre(kEndOfTextId, kPadId));
  EXPECT_EQ(tokenizer->Encode("x<|endoftext|>y").size(), 3u);
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode("a<|<|pad|>|>b")), "a<||>b");
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode("<|endoftext")), "<|endoftext");
  EXPECT_EQ(tokenizer->Decode(std::vector<int32_t>{kEndOfTextId, -1, 1 << 20}), "");
}

TEST(TokenizerTest, ByteLengthsCountTheText) {
  const auto tokenizer = SmallTokenizer();
  const std::vector<int32_t> lengths = tokenizer->TokenByteLengths();
  int64_t bytes = 0;
  for (int32_t id : tokenizer->Encode(std::string(kText) + "<|endoftext|>")) bytes += lengths[id];
  EXPECT_EQ(bytes, static_cast<int64_t>(sizeof(kText) - 1));
}

TEST(TokenizerTest, LoadsWhatItWrote) {
  const auto tokenizer = SmallTokenizer();
  const TemporaryFolder folder;
  Spill(folder / "tokenizer.json", tokenizer->ToJson());
  Spill(folder / "tokenizer_config.json", tokenizer->ToConfigJson());
  const auto loaded = Tokenizer::LoadFolder(folder.path());
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ((*loaded)->Encode(kText), tokenizer->Encode(kText));
  EXPECT_EQ((*loaded)->ToJson(), tokenizer->ToJson());
  EXPECT_THAT(tokenizer->ToConfigJson(),
              testing::AllOf(HasSubstr("PreTrainedTokenizerFast"), HasSubstr("[\"input_ids\", \"attention_mask\"]")));
}

// `text` with the first occurrence of `from` replaced.
std::string Edited(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(TokenizerTest, ReadsMergesAsPairs) {
  const auto tokenizer = SmallTokenizer();
  std::string json = tokenizer->ToJson();
  size_t at = json.find("\"merges\"");
  for (at = json.find('"', at + 8); at != std::string::npos; at = json.find('"', at)) {
    const size_t end = json.find('"', at + 1);
    const std::string merge = json.substr(at, end + 1 - at);
    const std::string pair = "[" + Edited(merge, " ", "\", \"") + "]";
    json.replace(at, merge.size(), pair);
    at += pair.size();
  }
  const auto loaded = Tokenizer::FromJson(json, "pairs.json");
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ((*loaded)->ToJson(), json);
  EXPECT_EQ((*loaded)->vocabulary_size(), tokenizer->vocabulary_size());
  EXPECT_EQ((*loaded)->Encode(kText), tokenizer->Encode(kText));
}

TEST(TokenizerTest, RefusesWhatItCannotUse) {
  const std::string json = SmallTokenizer()->ToJson();
  const std::pair<std::string, std::string> cases[] = {
      {json.substr(0, json.size() / 2), "not valid JSON"},
      {"[]", "not an object"},
      {Edited(json, "\"BPE\"", "\"Unigram\""), "/model/type should be \"BPE\", got \"Unigram\""},
      {Edited(json, "\"add_prefix_space\": false", "\"add_prefix_space\": true"), "/pre_tokenizer/add_prefix_space"},
      {Edited(json, "\"byte_fallback\": false", "\"byte_fallback\": true"), "/model/byte_fallback should be unset"},
      {Edited(json, "\"content\": \"<|pad|>\"", "\"content\": \"<pad>\""), "token \"<|pad|>\" should be of its own"},
      {Edited(json, "\"A\": 67", "\"A\": 68"), "of its own"},
      {Edited(json, "\"A\": 67", "\"A\": 670000"), "of its own"},
      {Edited(json, "\"A\": 67", "\"AA\": 67"), "lacks byte 65"},
      {Edited(json, "\"A\": 67", "\"\u4e2d\": 67"), "byte-level alphabet"},
      {Edited(json, "\"merges\": [", "\"merges\": [\"A B\", "), "merge 0, \"A B\""},
      {Edited(json, "\"merges\": [", "\"merges\": [7, "), "merge 0, 7"},
      {Edited(json, "\"merges\": [", "\"merges\": [[[]], "), "merge 0, a list, does not join"},
      {Edited(json, "\"A\": 67", "\"A\": {\"a\": 67}"), "of its own, got an object"},
      {Edited(json, "\"version\": \"1.0\"", "\"version\": " + std::string(100000, '[') + std::string(100000, ']')),
       "nests deeper than 64 levels"},
      {Edited(json, "\"normalizer\": null", "\"normalizer\": " + std::string(60, '[') + std::string(60, ']')),
       "the type of /normalizer should be \"NFC\", or it unset, got null"},
  };
  for (const auto& [text, message] : cases) {
    const auto loaded = Tokenizer::FromJson(text, "some/tokenizer.json");
    EXPECT_EQ(loaded.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(loaded.status().message()),
                testing::AllOf(HasSubstr("some/tokenizer.json"), HasSubstr(message)));
  }
  const auto missing = Tokenizer::LoadFolder("/nonexistent");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("/nonexistent/tokenizer.json"));
}

}  // namespace
}  // namespace angel_ptm
