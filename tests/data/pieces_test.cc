// Tokens of captions: the ids that Hugging Face's tokenizers give for the same files, what is cut, and what is refused.
#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "angel_ptm/base/file.h"
#include "angel_ptm/data/pieces/text_pieces.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kVocabulary[] =
    "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nred\nfox\n##es\njump\n##ed\n,\n!\n狐\n狸\ncafe\n##s\nI\ni\nRed\n";

class WordPiecesTest : public ::testing::Test {
 protected:
  std::unique_ptr<const TextPieces> Open(const std::string& config = "") {
    EXPECT_TRUE(WriteFile(dir_ / "vocab.txt", kVocabulary).ok());
    EXPECT_TRUE(WriteFile(dir_ / "tokenizer_config.json", config.empty() ? "{}" : config).ok());
    auto pieces = OpenWordPieces(dir_.path());
    EXPECT_TRUE(pieces.ok()) << pieces.status();
    return *std::move(pieces);
  }
  TemporaryFolder dir_;
};

TEST_F(WordPiecesTest, WordsArePiecesFromTheLeft) {
  const auto pieces = Open();
  EXPECT_EQ(pieces->pad_id(), 0);
  EXPECT_EQ(pieces->vocabulary_size(), 19);
  EXPECT_THAT(pieces->Encode("A red  fox, jumped!", 77).ids, ElementsAre(2, 4, 5, 6, 10, 8, 9, 11, 3));
  EXPECT_THAT(pieces->Encode("foxes foxs redx", 77).ids, ElementsAre(2, 6, 7, 6, 15, 1, 3));
  // Each ideograph is a word of its own; accents and case are dropped.
  EXPECT_THAT(pieces->Encode("red狐狸CAFÉS", 77).ids, ElementsAre(2, 5, 12, 13, 14, 15, 3));
  EXPECT_THAT(pieces
                  ->Encode("\xC4\xB0\t\xE2\x80\x8B"
                           "red\xC2\xAD",
                           77)
                  .ids,
              ElementsAre(2, 17, 5, 3));
  EXPECT_THAT(pieces->Encode("", 77).ids, ElementsAre(2, 3));
  EXPECT_THAT(pieces->Encode(std::string(101, 'a'), 77).ids, ElementsAre(2, 1, 3));
}

TEST_F(WordPiecesTest, CaseStaysIfTheConfigurationSaysSo) {
  const auto pieces = Open(R"({"do_lower_case": false, "unk_token": {"content": "[UNK]"}})");
  EXPECT_THAT(pieces->Encode("Red red \xC4\xB0 caf\xC3\xA9", 77).ids, ElementsAre(2, 18, 5, 1, 1, 3));
  EXPECT_NE(pieces->digest(), Open(R"({"do_lower_case": true})")->digest());
}

TEST_F(WordPiecesTest, WhatDoesNotFitIsCutAndReturned) {
  const auto pieces = Open();
  const CaptionPieces cut = pieces->Encode("a red fox, a caf\xC3\xA9", 5);
  EXPECT_THAT(cut.ids, ElementsAre(2, 4, 5, 6, 3));
  EXPECT_EQ(cut.dropped, ", a caf\xC3\xA9");
  EXPECT_EQ(pieces->Encode("a red fox", 5).dropped, "");
}

TEST_F(WordPiecesTest, AVocabularyWithoutSpecialTokensIsRefused) {
  ASSERT_TRUE(WriteFile(dir_ / "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n").ok());
  EXPECT_THAT(std::string(OpenWordPieces(dir_.path()).status().message()),
              HasSubstr("vocab.txt: wanted the token [SEP], got 3 tokens without it"));
  EXPECT_EQ(OpenWordPieces(dir_ / "absent").status().code(), absl::StatusCode::kNotFound);
}

// The ids that the Python package gives for the same model.
TEST(SentencePiecesTest, HasTheLibrarysIds) {
  const auto pieces = OpenSentencePieces(ANGEL_PTM_TESTDATA);
  ASSERT_TRUE(pieces.ok()) << pieces.status();
  EXPECT_EQ((*pieces)->pad_id(), 0);
  EXPECT_EQ((*pieces)->vocabulary_size(), 49);
  EXPECT_THAT((*pieces)->Encode("the red fox", 77).ids, ElementsAre(9, 6, 4, 3, 12, 4, 17, 3, 24, 5, 35, 1));
  EXPECT_THAT((*pieces)->Encode("一只猫", 77).ids, ElementsAre(3, 21, 23, 43, 1));
  EXPECT_THAT((*pieces)->Encode("", 77).ids, ElementsAre(1));
  const CaptionPieces cut = (*pieces)->Encode("一只猫", 4);
  EXPECT_THAT(cut.ids, ElementsAre(3, 21, 23, 1));
  EXPECT_EQ(cut.dropped, "猫");
}

TEST(SentencePiecesTest, AnotherFileIsRefused) {
  const TemporaryFolder dir;
  ASSERT_TRUE(WriteFile(dir / "spiece.model", "not a model").ok());
  EXPECT_THAT(std::string(OpenSentencePieces(dir.path()).status().message()),
              HasSubstr("spiece.model is no SentencePiece model"));
}

}  // namespace
}  // namespace angel_ptm
