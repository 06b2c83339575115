// GPT-2's pre-tokenisation (Radford et al. 2019): text is cut into words, and byte-pair merges never cross a cut. The
// same words as Hugging Face's ByteLevel pre-tokenizer with use_regex = true, whose pattern is
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
#ifndef ANGEL_PTM_DATA_PRETOKENIZER_H_
#define ANGEL_PTM_DATA_PRETOKENIZER_H_

#include <cstddef>
#include <string_view>

namespace angel_ptm {

// A walk over the words of one text after another; small, one per thread.
class Pretokenizer {
 public:
  // Starts on `text`, which must be valid UTF-8 and outlive the use of it.
  void Reset(std::string_view text) { rest_ = text; }
  // The next word, a view into the text; empty at the end. The words concatenated are the text.
  std::string_view Next();

 private:
  std::string_view rest_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_PRETOKENIZER_H_
