#include "angel_ptm/data/bpe_trainer.h"

#include <algorithm>
#include <limits>
#include <queue>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/status.h"

namespace angel_ptm {

void WordCounter::Add(std::string_view text) {
  words_.Reset(text);
  for (std::string_view word = words_.Next(); !word.empty(); word = words_.Next()) Add(word, 1);
}

void WordCounter::Add(std::string_view word, int64_t count) {
  const auto [it, inserted] = counts_.try_emplace(absl::string_view(word.data(), word.size()), 0);
  it->second += count;
  if (inserted) word_bytes_ += static_cast<int64_t>(word.size());
}

void WordCounter::Merge(const WordCounter& other) {
  for (const auto& [word, count] : other.counts_) Add(word, count);
}

int64_t WordCounter::memory_bytes() const {
  // A slot and its control byte; long words are stored outside, with the allocator's own bytes.
  const int64_t slot = static_cast<int64_t>(sizeof(*counts_.begin())) + 1;
  return static_cast<int64_t>(counts_.capacity()) * slot + 2 * word_bytes_;
}

namespace {

// The symbols of all words are linked lists in one array. A merge keeps the left node and unlinks the right one.
struct Node {
  int32_t symbol;  // -1: unlinked
  int32_t previous;
  int32_t next;
  uint32_t weight;  // number of occurrences of the node's word
};

struct Pair {
  int32_t left;
  int32_t right;
  int64_t count = 0;
  // Nodes at which the pair occurred when they were added; stale ones are skipped when the pair is merged.
  std::vector<int32_t> nodes;
};

struct Candidate {
  int64_t count;
  int32_t left;
  int32_t right;
  int32_t pair;

  // The order of the priority queue: a smaller candidate is merged later.
  friend bool operator<(const Candidate& a, const Candidate& b) {
    if (a.count != b.count) return a.count < b.count;
    if (a.left != b.left) return a.left > b.left;
    return a.right > b.right;
  }
};

// Remembers, during one merge, the pair that each neighbouring symbol forms, so that the hash table is consulted once
// per neighbour and not once per occurrence.
class NeighbourIndex {
 public:
  explicit NeighbourIndex(int64_t symbols) : slots_(symbols, Slot{-1, -1}) {}
  int32_t* Find(int32_t neighbour, int32_t merge) {
    Slot& slot = slots_[neighbour];
    if (slot.merge != merge) slot = {merge, -1};
    return &slot.pair;
  }

 private:
  struct Slot {
    int32_t merge;
    int32_t pair;
  };
  std::vector<Slot> slots_;
};

class Trainer {
 public:
  Trainer(const absl::flat_hash_map<std::string, int64_t>& word_counts, const BpeTrainerOptions& options)
      : options_(options),
        left_old_(256 + options.merges),
        left_new_(256 + options.merges),
        right_old_(256 + options.merges),
        right_new_(256 + options.merges) {
    BuildNodes(word_counts);
    for (int b = 0; b < 256; ++b) texts_.push_back(std::string(1, static_cast<char>(b)));
    taken_.insert(texts_.begin(), texts_.end());
  }

  std::vector<BpeMerge> Run() {
    std::vector<BpeMerge> merges;
    CountInitialPairs();
    while (static_cast<int64_t>(merges.size()) < options_.merges && !queue_.empty()) {
      const Candidate best = queue_.top();
      queue_.pop();
      const int64_t count = pairs_[best.pair].count;
      if (count != best.count) {
        // Counts of existing pairs only fall, so an outdated entry is an upper bound and is queued again.
        if (count >= options_.pair_count_min) queue_.push({count, best.left, best.right, best.pair});
        continue;
      }
      std::string text = texts_[best.left] + texts_[best.right];
      if (!taken_.insert(text).second) continue;
      texts_.push_back(std::move(text));
      merges.push_back({best.left, best.right});
      MergePair(best.pair, static_cast<int32_t>(255 + merges.size()));
    }
    return merges;
  }

 private:
  void BuildNodes(const absl::flat_hash_map<std::string, int64_t>& word_counts) {
    size_t total = 0;
    for (const auto& [word, count] : word_counts) total += word.size();
    nodes_.reserve(total);
    for (const auto& [word, count] : word_counts) {
      const int32_t first = static_cast<int32_t>(nodes_.size());
      const int32_t size = static_cast<int32_t>(word.size());
      for (int32_t i = 0; i < size; ++i) {
        nodes_.push_back({static_cast<unsigned char>(word[i]), i > 0 ? first + i - 1 : -1,
                          i + 1 < size ? first + i + 1 : -1, static_cast<uint32_t>(count)});
      }
    }
  }

  int32_t PairIndex(int32_t left, int32_t right) {
    const uint64_t key = static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
    const auto [it, inserted] = pair_index_.try_emplace(key, static_cast<int32_t>(pairs_.size()));
    if (inserted) pairs_.push_back({left, right});
    return it->second;
  }

  void Queue(int32_t pair) {
    const Pair& p = pairs_[pair];
    if (p.count >= options_.pair_count_min) queue_.push({p.count, p.left, p.right, pair});
  }

  void CountInitialPairs() {
    for (int32_t i = 0; i < static_cast<int32_t>(nodes_.size()); ++i) {
      const Node& node = nodes_[i];
      if (node.next < 0) continue;
      Pair& pair = pairs_[PairIndex(node.symbol, nodes_[node.next].symbol)];
      pair.count += node.weight;
      pair.nodes.push_back(i);
    }
    for (size_t p = 0; p < pairs_.size(); ++p) Queue(static_cast<int32_t>(p));
  }

  // Replaces every occurrence of the pair, left to right in each word, by `symbol`.
  void MergePair(int32_t merged, int32_t symbol) {
    const int32_t left = pairs_[merged].left, right = pairs_[merged].right;
    std::vector<int32_t> occurrences = std::move(pairs_[merged].nodes);
    if (!std::is_sorted(occurrences.begin(), occurrences.end())) std::sort(occurrences.begin(), occurrences.end());
    made_.clear();
    for (int32_t i : occurrences) {
      Node& node = nodes_[i];
      if (node.symbol != left || node.next < 0 || nodes_[node.next].symbol != right) continue;
      Node& dropped = nodes_[node.next];
      const int32_t before = node.previous, after = dropped.next;
      if (before >= 0) {
        const int32_t neighbour = nodes_[before].symbol;
        Lose(left_old_.Find(neighbour, symbol), neighbour, left, node.weight);
        Gain(left_new_.Find(neighbour, symbol), neighbour, symbol, node.weight, before);
      }
      if (after >= 0) {
        const int32_t neighbour = nodes_[after].symbol;
        Lose(right_old_.Find(neighbour, symbol), right, neighbour, node.weight);
        Gain(right_new_.Find(neighbour, symbol), symbol, neighbour, node.weight, i);
        nodes_[after].previous = i;
      }
      node.symbol = symbol;
      node.next = after;
      dropped.symbol = -1;
    }
    pairs_[merged].count = 0;  // also clears what overlapping occurrences ("aaa") left in the count
    for (int32_t pair : made_) Queue(pair);
  }

  void Lose(int32_t* pair, int32_t left, int32_t right, uint32_t weight) {
    if (*pair < 0) *pair = PairIndex(left, right);
    pairs_[*pair].count -= weight;
  }

  void Gain(int32_t* pair, int32_t left, int32_t right, uint32_t weight, int32_t node) {
    if (*pair < 0) {
      *pair = PairIndex(left, right);
      made_.push_back(*pair);
    }
    pairs_[*pair].count += weight;
    pairs_[*pair].nodes.push_back(node);
  }

  BpeTrainerOptions options_;
  std::vector<Node> nodes_;
  std::vector<Pair> pairs_;
  absl::flat_hash_map<uint64_t, int32_t> pair_index_;
  std::priority_queue<Candidate> queue_;
  std::vector<std::string> texts_;  // by symbol
  absl::flat_hash_set<std::string> taken_;
  std::vector<int32_t> made_;  // pairs that the current merge made; may contain duplicates
  NeighbourIndex left_old_, left_new_, right_old_, right_new_;
};

}  // namespace

absl::StatusOr<std::vector<BpeMerge>> TrainBpe(const absl::flat_hash_map<std::string, int64_t>& word_counts,
                                               const BpeTrainerOptions& options) {
  APTM_CHECK(options.merges >= 0 && options.pair_count_min >= 1);
  int64_t bytes = 0, count_max = 0;
  for (const auto& [word, count] : word_counts) {
    bytes += static_cast<int64_t>(word.size());
    count_max = std::max(count_max, count);
  }
  if (bytes > std::numeric_limits<int32_t>::max()) {
    return absl::InvalidArgumentError(absl::StrCat("the tokenizer's training text has ", bytes,
                                                   " bytes of distinct words, more than the 2147483647 that the "
                                                   "trainer indexes; train it on less text"));
  }
  if (count_max > std::numeric_limits<uint32_t>::max()) {
    return absl::InvalidArgumentError(absl::StrCat("a word occurs ", count_max,
                                                   " times in the tokenizer's training text, more than the 4294967295 "
                                                   "that the trainer counts; train it on less text"));
  }
  std::vector<BpeMerge> merges = Trainer(word_counts, options).Run();
  if (options.exact && static_cast<int64_t>(merges.size()) < options.merges) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the text supports only ", merges.size(), " byte-pair merges of pairs that occur at least ",
        options.pair_count_min, " times, but ", options.merges, " were asked for; add text or lower the vocabulary by ",
        options.merges - static_cast<int64_t>(merges.size())));
  }
  return merges;
}

}  // namespace angel_ptm
