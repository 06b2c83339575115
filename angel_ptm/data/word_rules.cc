#include "angel_ptm/data/word_rules.h"

#include <utility>

namespace angel_ptm {

void WordWalk::Reset(std::string_view text) {
  next_ = 0;
  inside_.Reset({});
  pieces_.clear();
  if (!text.empty()) pieces_.push_back(text);
  for (const WordRules::Rule& rule : rules_.rules) {
    Cut(rule);
    std::swap(pieces_, cut_);
  }
}

// Sets cut_. A pattern sees a single piece, so lookahead and lookbehind end at its borders.
void WordWalk::Cut(const WordRules::Rule& rule) {
  cut_.clear();
  const auto keep = [&](std::string_view piece, bool keeps) {
    if (keeps && !piece.empty()) cut_.push_back(piece);
  };
  for (const std::string_view piece : pieces_) {
    size_t done = 0;
    rule.pattern->ForEachMatch(piece, [&](Regex::Match match) {
      keep(piece.substr(done, match.begin - done), rule.keeps_rest);
      keep(piece.substr(match.begin, match.end - match.begin), rule.keeps_matches);
      done = match.end;
    });
    keep(piece.substr(done), rule.keeps_rest);
  }
}

std::string_view WordWalk::Next() {
  while (true) {
    if (const std::string_view word = inside_.Next(); !word.empty()) return word;
    if (next_ == pieces_.size()) return {};
    const std::string_view piece = pieces_[next_++];
    if (!rules_.gpt2) return piece;
    inside_.Reset(piece);
  }
}

}  // namespace angel_ptm
