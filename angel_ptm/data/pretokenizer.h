// GPT-2's pre-tokenisation (Radford et al. 2019): cuts text into words, which byte-pair merges never cross. Gives the
// same words as Hugging Face's ByteLevel pre-tokenizer with use_regex = true, whose pattern is
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
#ifndef ANGEL_PTM_DATA_PRETOKENIZER_H_
#define ANGEL_PTM_DATA_PRETOKENIZER_H_

#include <cstddef>
#include <string_view>

namespace angel_ptm {

// Iterates over the words of one text after another. Small; use one per thread.
class Pretokenizer {
 public:
  // Starts on `text`, which must be valid UTF-8 and stay alive while it is read.
  void Reset(std::string_view text) { rest_ = text; }
  // The next word, as a view into the text; empty at the end. The concatenated words are the text.
  std::string_view Next();

 private:
  std::string_view rest_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_PRETOKENIZER_H_
