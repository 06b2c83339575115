#include "angel_ptm/data/tokenizer.h"

#include <algorithm>
#include <limits>

#include "angel_ptm/base/check.h"
#include "angel_ptm/data/patterns/normal_form.h"
#include "angel_ptm/data/utf8.h"

namespace angel_ptm {
namespace {

constexpr size_t kShortWordBytes = 48;      // up to this length, scanning the word is faster than a queue
constexpr size_t kKnownWordsMax = 1 << 18;  // bounds an encoder's memory to some tens of MiB
constexpr int32_t kNoMerge = std::numeric_limits<int32_t>::max();

}  // namespace

std::unique_ptr<Tokenizer> Tokenizer::FromMerges(std::span<const BpeMerge> merges) {
  auto tokenizer = std::unique_ptr<Tokenizer>(new Tokenizer);
  tokenizer->token_bytes_.resize(2);
  tokenizer->added_.Add(std::string(kEndOfTextToken), kEndOfTextId);
  tokenizer->added_.Add(std::string(kPadToken), kPadId);
  for (int b = 0; b < 256; ++b) {
    tokenizer->byte_ids_[b] = 2 + b;
    tokenizer->token_bytes_.push_back(std::string(1, static_cast<char>(b)));
  }
  for (const BpeMerge& merge : merges) {
    // The trainer's symbols begin with the bytes, ids with the special tokens.
    const int32_t left = merge.left + 2, right = merge.right + 2, merged = tokenizer->vocabulary_size();
    APTM_CHECK(left >= 2 && left < merged && right >= 2 && right < merged, left, " ", right);
    tokenizer->token_bytes_.push_back(tokenizer->token_bytes_[left] + tokenizer->token_bytes_[right]);
    tokenizer->AddMerge(left, right, merged);
  }
  return tokenizer;
}

void Tokenizer::AddMerge(int32_t left, int32_t right, int32_t merged) {
  const int32_t rank = static_cast<int32_t>(merge_list_.size());
  merge_list_.push_back({left, right});
  merges_.try_emplace(static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right), Merged{rank, merged});
}

std::vector<int32_t> Tokenizer::Encode(std::string_view text) const {
  std::vector<int32_t> ids;
  Encoder(*this).Encode(text, &ids);
  return ids;
}

std::string_view Tokenizer::TokenBytes(int32_t id) const {
  return id >= 0 && id < vocabulary_size() ? std::string_view(token_bytes_[id]) : std::string_view();
}

std::string Tokenizer::Decode(std::span<const int32_t> ids) const {
  std::string text;
  for (int32_t id : ids) text.append(TokenBytes(id));
  return text;
}

std::vector<int32_t> Tokenizer::TokenByteLengths() const {
  std::vector<int32_t> lengths;
  for (const std::string& bytes : token_bytes_) lengths.push_back(static_cast<int32_t>(bytes.size()));
  return lengths;
}

Tokenizer::Encoder::Encoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer), words_(tokenizer.word_rules_) {}

void Tokenizer::Encoder::Encode(std::string_view text, std::vector<int32_t>* ids) {
  if (ValidUtf8Prefix(text) == text.size()) return EncodeValid(text, ids);
  const std::string replaced = ReplaceInvalidUtf8(text);
  return EncodeValid(replaced, ids);
}

// Added tokens are matched before text is cut into words, so words do not extend across them.
void Tokenizer::Encoder::EncodeValid(std::string_view text, std::vector<int32_t>* ids) {
  while (!text.empty()) {
    const AddedTokens::Found found = tokenizer_.added_.FindFirst(text);
    const std::string_view before = text.substr(0, found.at);
    if (!tokenizer_.composes_) {
      EncodeNormal(before, ids);
    } else {
      const std::string composed = NormalFormC(before);
      EncodeNormal(composed, ids);
    }
    if (found.id >= 0) ids->push_back(found.id);
    text.remove_prefix(found.at + found.size);
  }
}

void Tokenizer::Encoder::EncodeNormal(std::string_view text, std::vector<int32_t>* ids) {
  while (!text.empty() && !tokenizer_.normal_added_.empty()) {
    const AddedTokens::Found found = tokenizer_.normal_added_.FindFirst(text);
    if (found.id < 0) break;
    EncodeWords(text.substr(0, found.at), ids);
    ids->push_back(found.id);
    text.remove_prefix(found.at + found.size);
  }
  return EncodeWords(text, ids);
}

void Tokenizer::Encoder::EncodeWords(std::string_view text, std::vector<int32_t>* ids) {
  words_.Reset(text);
  for (std::string_view word = words_.Next(); !word.empty(); word = words_.Next()) EncodeWord(word, ids);
}

void Tokenizer::Encoder::EncodeWord(std::string_view word, std::vector<int32_t>* ids) {
  if (!tokenizer_.whole_words_.empty()) {
    const auto whole = tokenizer_.whole_words_.find(absl::string_view(word.data(), word.size()));
    if (whole != tokenizer_.whole_words_.end()) return ids->push_back(whole->second);
  }
  // Long words seldom recur, so they are not remembered.
  if (word.size() > kShortWordBytes) return MergeLongWord(word, ids);
  const auto known = known_words_.find(absl::string_view(word.data(), word.size()));
  if (known != known_words_.end()) {
    const auto first = known_ids_.begin() + known->second.first;
    ids->insert(ids->end(), first, first + known->second.size);
    return;
  }
  const size_t before = ids->size();
  MergeShortWord(word, ids);
  if (known_words_.size() < kKnownWordsMax) {
    const Span span = {static_cast<int32_t>(known_ids_.size()), static_cast<int32_t>(ids->size() - before)};
    known_ids_.insert(known_ids_.end(), ids->begin() + before, ids->end());
    known_words_.emplace(std::string(word), span);
  }
}

// Merges the adjacent pair with the lowest rank, leftmost first, until there is none. ranks[i] is the rank of the pair
// (i, i + 1).
void Tokenizer::Encoder::MergeShortWord(std::string_view word, std::vector<int32_t>* ids) {
  int32_t symbols[kShortWordBytes], ranks[kShortWordBytes], merged[kShortWordBytes];
  int size = static_cast<int>(word.size());
  const auto look_up = [&](int i) {
    const Merged* merge = i + 1 < size ? tokenizer_.FindMerge(symbols[i], symbols[i + 1]) : nullptr;
    ranks[i] = merge == nullptr ? kNoMerge : merge->rank;
    merged[i] = merge == nullptr ? -1 : merge->id;
  };
  for (int i = 0; i < size; ++i) symbols[i] = tokenizer_.byte_ids_[static_cast<unsigned char>(word[i])];
  for (int i = 0; i < size; ++i) look_up(i);
  while (size > 1) {
    const int best = static_cast<int>(std::min_element(ranks, ranks + size) - ranks);
    if (ranks[best] == kNoMerge) break;
    symbols[best] = merged[best];
    for (int i = best + 1; i + 1 < size; ++i) {
      symbols[i] = symbols[i + 1];
      ranks[i] = ranks[i + 1];
      merged[i] = merged[i + 1];
    }
    --size;
    look_up(best);
    if (best > 0) look_up(best - 1);
  }
  ids->insert(ids->end(), symbols, symbols + size);
}

bool Tokenizer::Encoder::Later(const Step& a, const Step& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.node > b.node;
}

void Tokenizer::Encoder::QueueStep(int32_t node) {
  const int32_t next = node + nodes_[node].size;
  if (next >= static_cast<int32_t>(nodes_.size())) return;
  const Merged* merge = tokenizer_.FindMerge(nodes_[node].id, nodes_[next].id);
  if (merge == nullptr) return;
  steps_.push_back({merge->rank, node, merge->id, nodes_[node].size, nodes_[next].size});
  std::push_heap(steps_.begin(), steps_.end(), Later);
}

// Merges in the same order with a queue, so words of many kilobytes (Chinese without punctuation, base64) take linear
// time.
void Tokenizer::Encoder::MergeLongWord(std::string_view word, std::vector<int32_t>* ids) {
  const int32_t size = static_cast<int32_t>(word.size());
  nodes_.clear();
  steps_.clear();
  for (int32_t i = 0; i < size; ++i) {
    nodes_.push_back({tokenizer_.byte_ids_[static_cast<unsigned char>(word[i])], 1, i - 1});
  }
  for (int32_t i = 0; i < size; ++i) QueueStep(i);
  while (!steps_.empty()) {
    std::pop_heap(steps_.begin(), steps_.end(), Later);
    const Step step = steps_.back();
    steps_.pop_back();
    Symbol& left = nodes_[step.node];
    const int32_t right = step.node + step.left_size;
    // A symbol's size only grows, so equal sizes mean equal symbols.
    if (left.id < 0 || left.size != step.left_size || nodes_[right].size != step.right_size) continue;
    left.id = step.merged;
    left.size += step.right_size;
    nodes_[right].id = -1;
    const int32_t after = step.node + left.size;
    if (after < size) nodes_[after].previous = step.node;
    QueueStep(step.node);
    if (left.previous >= 0) QueueStep(left.previous);
  }
  for (int32_t i = 0; i < size; i += nodes_[i].size) ids->push_back(nodes_[i].id);
}

}  // namespace angel_ptm
