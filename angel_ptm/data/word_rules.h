// How a tokenizer cuts text into words, which no merge crosses: by regular expressions, each applied to the pieces that
// the previous one left, and then by GPT-2's pattern (pretokenizer.h).
#ifndef ANGEL_PTM_DATA_WORD_RULES_H_
#define ANGEL_PTM_DATA_WORD_RULES_H_

#include <memory>
#include <string_view>
#include <vector>

#include "angel_ptm/data/patterns/regex.h"
#include "angel_ptm/data/pretokenizer.h"

namespace angel_ptm {

// Immutable and thread-safe.
struct WordRules {
  struct Rule {
    std::unique_ptr<const Regex> pattern;
    // Which pieces are kept: the matches, and what lies between them. Each is a piece of its own.
    bool keeps_matches = true, keeps_rest = true;
  };
  std::vector<Rule> rules;
  bool gpt2 = true;  // cut the pieces that the rules left by GPT-2's pattern
};

// Iterates over the words of one text after another. Small; use one per thread.
class WordWalk {
 public:
  // `rules` must outlive this.
  explicit WordWalk(const WordRules& rules) : rules_(rules) {}

  // Starts on `text`, which must be valid UTF-8 and stay alive while it is read.
  void Reset(std::string_view text);
  // The next word, as a view into the text; empty at the end.
  std::string_view Next();

 private:
  void Cut(const WordRules::Rule& rule);

  const WordRules& rules_;
  std::vector<std::string_view> pieces_, cut_;
  size_t next_ = 0;      // index in pieces_
  Pretokenizer inside_;  // walks the piece before next_
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_WORD_RULES_H_
