// Letters and numbers of Unicode 16.0.0, independent of the machine's libraries: another cut of words gives other
// tokens.
#ifndef ANGEL_PTM_DATA_UNICODE_CLASSES_H_
#define ANGEL_PTM_DATA_UNICODE_CLASSES_H_

#include <cstdint>
#include <span>

namespace angel_ptm {

struct CodePointRange {
  uint32_t first;
  uint32_t last;
};

// General categories L and N, as ascending disjoint ranges.
std::span<const CodePointRange> LetterRanges();
std::span<const CodePointRange> NumberRanges();

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_UNICODE_CLASSES_H_
