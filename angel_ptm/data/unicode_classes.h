// Letters and numbers of Unicode 16.0.0, whatever the machine's libraries know: a word cut elsewhere is another token.
#ifndef ANGEL_PTM_DATA_UNICODE_CLASSES_H_
#define ANGEL_PTM_DATA_UNICODE_CLASSES_H_

#include <cstdint>
#include <span>

namespace angel_ptm {

struct CodePointRange {
  uint32_t first;
  uint32_t last;
};

// Ascending and apart: general categories L and N.
std::span<const CodePointRange> LetterRanges();
std::span<const CodePointRange> NumberRanges();

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_UNICODE_CLASSES_H_
