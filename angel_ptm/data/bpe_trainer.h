// Learns byte-level byte-pair merges (Sennrich et al. 2016, on bytes as in Radford et al. 2019).
#ifndef ANGEL_PTM_DATA_BPE_TRAINER_H_
#define ANGEL_PTM_DATA_BPE_TRAINER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "angel_ptm/data/pretokenizer.h"

namespace angel_ptm {

// Counts how often each word of the pre-tokenisation occurs. Use one counter per thread and combine them with Merge.
// The result does not depend on the order of the texts.
class WordCounter {
 public:
  // `text` must be valid UTF-8.
  void Add(std::string_view text);
  void Merge(const WordCounter& other);

  const absl::flat_hash_map<std::string, int64_t>& counts() const { return counts_; }
  absl::flat_hash_map<std::string, int64_t> TakeCounts() { return std::move(counts_); }

  // Total bytes of all distinct words; and the memory that the counter takes.
  int64_t word_bytes() const { return word_bytes_; }
  int64_t memory_bytes() const;

 private:
  void Add(std::string_view word, int64_t count);

  Pretokenizer words_;
  absl::flat_hash_map<std::string, int64_t> counts_;
  int64_t word_bytes_ = 0;
};

// A merge of two symbols into a new one. Symbols 0..255 are the bytes; merge i makes symbol 256 + i.
struct BpeMerge {
  int32_t left;
  int32_t right;

  friend bool operator==(const BpeMerge&, const BpeMerge&) = default;
};

struct BpeTrainerOptions {
  int64_t merges = 0;          // number of merges to learn
  int64_t pair_count_min = 2;  // pairs that occur less often are not merged
  bool exact = true;           // learning fewer merges than `merges` is an error
};

// At every step merges the pair of adjacent symbols with the largest count over all words; ties go to the smaller left
// symbol, then to the smaller right one. Skips a pair whose text is already a token that was made another way, so the
// text of a token is unique. Updates counts incrementally: the work is proportional to the number of merged
// occurrences. Errors: InvalidArgument if the words support fewer merges than asked (and `exact` is set), have 2^31
// bytes or more in all, or one of them occurs 2^32 times or more.
absl::StatusOr<std::vector<BpeMerge>> TrainBpe(const absl::flat_hash_map<std::string, int64_t>& word_counts,
                                               const BpeTrainerOptions& options);

// Memory that TrainBpe needs for words of this total size, without the words themselves.
inline int64_t BpeTrainingBytes(int64_t word_bytes) { return 28 * word_bytes; }

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_BPE_TRAINER_H_
