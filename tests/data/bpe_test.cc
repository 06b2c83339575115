// Compares the trainer and the encoder with slow implementations that recount everything at every step.
#include <algorithm>
#include <map>
#include <set>

#include "angel_ptm/data/bpe_trainer.h"
#include "angel_ptm/data/tokenizer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/data/test_support.h"

namespace angel_ptm {
namespace {

using Counts = absl::flat_hash_map<std::string, int64_t>;

// Joins every occurrence of (left, right), left to right.
std::vector<std::string> Join(const std::vector<std::string>& word, const std::string& left, const std::string& right) {
  std::vector<std::string> joined;
  for (size_t i = 0; i < word.size(); ++i) {
    if (i + 1 < word.size() && word[i] == left && word[i + 1] == right) {
      joined.push_back(left + right);
      ++i;
    } else {
      joined.push_back(word[i]);
    }
  }
  return joined;
}

std::vector<std::string> Characters(const std::string& word) {
  std::vector<std::string> characters;
  for (char c : word) characters.push_back(std::string(1, c));
  return characters;
}

// The definition: count all pairs, take the most frequent one (ties: smaller ids), join it everywhere, repeat.
std::vector<std::pair<std::string, std::string>> SlowMerges(const Counts& counts, size_t merges, int64_t count_min) {
  std::map<std::string, int> ids;
  for (int b = 0; b < 256; ++b) ids[std::string(1, static_cast<char>(b))] = b;
  std::vector<std::pair<std::vector<std::string>, int64_t>> words;
  for (const auto& [word, count] : counts) words.push_back({Characters(word), count});
  std::vector<std::pair<std::string, std::string>> result;
  while (result.size() < merges) {
    std::map<std::pair<int, int>, int64_t> pairs;
    std::map<int, std::string> texts;
    for (const auto& [text, id] : ids) texts[id] = text;
    for (const auto& [word, count] : words) {
      for (size_t i = 0; i + 1 < word.size(); ++i) pairs[{ids.at(word[i]), ids.at(word[i + 1])}] += count;
    }
    std::pair<int, int> best = {-1, -1};
    int64_t best_count = count_min - 1;
    for (const auto& [pair, count] : pairs) {  // ascending ids: the first of equally frequent pairs wins
      if (count > best_count && !ids.contains(texts[pair.first] + texts[pair.second])) {
        best = pair;
        best_count = count;
      }
    }
    if (best.first < 0) break;
    const std::string left = texts[best.first], right = texts[best.second];
    const int id = static_cast<int>(ids.size());
    ids[left + right] = id;
    result.push_back({left, right});
    for (auto& [word, count] : words) word = Join(word, left, right);
  }
  return result;
}

std::vector<std::pair<std::string, std::string>> Texts(const std::vector<BpeMerge>& merges) {
  std::vector<std::string> texts;
  for (int b = 0; b < 256; ++b) texts.push_back(std::string(1, static_cast<char>(b)));
  std::vector<std::pair<std::string, std::string>> result;
  for (const BpeMerge& merge : merges) {
    result.push_back({texts[merge.left], texts[merge.right]});
    texts.push_back(texts[merge.left] + texts[merge.right]);
  }
  return result;
}

// Joins adjacent tokens by the earliest applicable merge, leftmost, until none applies.
std::vector<std::string> SlowEncode(const std::string& word,
                                    const std::vector<std::pair<std::string, std::string>>& merges) {
  std::vector<std::string> tokens = Characters(word);
  while (true) {
    size_t best = merges.size(), best_at = 0;
    for (size_t i = 0; i + 1 < tokens.size(); ++i) {
      const auto pair = std::pair(tokens[i], tokens[i + 1]);
      const size_t rank = std::find(merges.begin(), merges.end(), pair) - merges.begin();
      if (rank < best) {
        best = rank;
        best_at = i;
      }
    }
    if (best == merges.size()) return tokens;
    tokens[best_at] += tokens[best_at + 1];
    tokens.erase(tokens.begin() + best_at + 1);
  }
}

TEST(BpeTrainerTest, KnownMergesOfAToyCorpus) {
  // Sennrich et al.'s example: low 5, lower 2, newest 6, widest 3.
  const Counts counts = {{"low", 5}, {"lower", 2}, {"newest", 6}, {"widest", 3}};
  const auto merges = TrainBpe(counts, {.merges = 4});
  ASSERT_TRUE(merges.ok()) << merges.status();
  // "es" and "st" both occur 9 times: 'e' < 's', so (e, s) comes first. "lo" and "ow" occur 7 times.
  EXPECT_THAT(Texts(*merges), testing::ElementsAre(testing::Pair("e", "s"), testing::Pair("es", "t"),
                                                   testing::Pair("l", "o"), testing::Pair("lo", "w")));
}

TEST(BpeTrainerTest, EqualsTheDefinitionOnRandomWords) {
  std::mt19937 random(7);
  for (const std::string alphabet : {"ab", "abc", "abcdefgh", "aaab\xe4\xb8\xad"}) {
    for (int trial = 0; trial < 8; ++trial) {
      Counts counts;
      for (const std::string& word : RandomWords(&random, 60, 12, alphabet)) counts[word] += 1 + random() % 5;
      const auto slow = SlowMerges(counts, 60, 2);
      const auto merges = TrainBpe(counts, {.merges = static_cast<int64_t>(slow.size())});
      ASSERT_TRUE(merges.ok()) << merges.status();
      EXPECT_EQ(Texts(*merges), slow) << alphabet << " trial " << trial;
    }
  }
}

TEST(BpeTrainerTest, SaysHowManyMergesTheTextSupports) {
  const auto merges = TrainBpe({{"abab", 1}, {"c", 100}}, {.merges = 5});
  EXPECT_EQ(merges.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(merges.status().message()), testing::HasSubstr("only 1 byte-pair merges"));
}

TEST(BpeTrainerTest, AWordThatOccursTooOftenIsNotAQuestionOfBytes) {
  const auto merges = TrainBpe({{"ab", int64_t{1} << 32}}, {.merges = 1});
  EXPECT_EQ(merges.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(merges.status().message()), testing::HasSubstr("a word occurs 4294967296 times"));
  EXPECT_TRUE(TrainBpe({{"ab", (int64_t{1} << 32) - 1}}, {.merges = 1}).ok());
}

TEST(WordCounterTest, MergedCountersEqualOne) {
  WordCounter one, two, all;
  one.Add("the cat the dog");
  two.Add("the end\n");
  all.Add("the cat the dog");
  all.Add("the end\n");
  one.Merge(two);
  EXPECT_EQ(one.counts(), all.counts());
  EXPECT_EQ(all.counts().at(" the"), 1);
  EXPECT_EQ(all.counts().at("the"), 2);
}

TEST(EncoderTest, EqualsTheDefinitionOnShortAndLongWords) {
  std::mt19937 random(11);
  Counts counts;
  for (const std::string& word : RandomWords(&random, 400, 20, "abcde")) ++counts[word];
  const auto merges = TrainBpe(counts, {.merges = 150});
  ASSERT_TRUE(merges.ok()) << merges.status();
  const auto tokenizer = Tokenizer::FromMerges(*merges);
  Tokenizer::Encoder encoder(*tokenizer);
  // Words on both sides of the length at which the merge loop changes, and repeated words, which are remembered.
  std::vector<std::string> words = RandomWords(&random, 300, 120, "abcde");
  words.insert(words.end(), words.begin(), words.begin() + 100);
  for (int length = 44; length < 54; ++length) words.push_back(std::string(length, 'a'));
  for (const std::string& word : words) {
    std::vector<int32_t> ids;
    encoder.Encode(word, &ids);
    std::vector<std::string> tokens;
    for (int32_t id : ids) tokens.push_back(std::string(tokenizer->TokenBytes(id)));
    EXPECT_EQ(tokens, SlowEncode(word, Texts(*merges))) << word;
  }
}

}  // namespace
}  // namespace angel_ptm
