// How a tokenizer cuts text into words, which no merge crosses: by regular expressions, one after the other, each on
// the pieces that the one before left, and by GPT-2's pattern (pretokenizer.h).
#ifndef ANGEL_PTM_DATA_WORD_RULES_H_
#define ANGEL_PTM_DATA_WORD_RULES_H_

#include <memory>
#include <string_view>
#include <vector>

#include "angel_ptm/data/patterns/regex.h"
#include "angel_ptm/data/pretokenizer.h"

namespace angel_ptm {

// Immutable; threads share one.
struct WordRules {
  struct Rule {
    std::unique_ptr<const Regex> pattern;
    // Which pieces stay: what matches, and what lies between. Each is one piece.
    bool keeps_matches = true, keeps_rest = true;
  };
  std::vector<Rule> rules;
  bool gpt2 = true;  // the pieces that the rules left are cut by GPT-2's pattern
};

// A walk over the words of one text after another; small, one per thread.
class WordWalk {
 public:
  // `rules` outlive it.
  explicit WordWalk(const WordRules& rules) : rules_(rules) {}

  // Starts on `text`, which must be valid UTF-8 and outlive the use of it.
  void Reset(std::string_view text);
  // The next word, a view into the text; empty at the end.
  std::string_view Next();

 private:
  void Cut(const WordRules::Rule& rule);

  const WordRules& rules_;
  std::vector<std::string_view> pieces_, cut_;
  size_t next_ = 0;      // of pieces_
  Pretokenizer inside_;  // of the piece before next_
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_WORD_RULES_H_
