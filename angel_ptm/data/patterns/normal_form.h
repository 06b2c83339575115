// Unicode normal forms, by utf8proc.
#ifndef ANGEL_PTM_DATA_PATTERNS_NORMAL_FORM_H_
#define ANGEL_PTM_DATA_PATTERNS_NORMAL_FORM_H_

#include <string>
#include <string_view>

namespace angel_ptm {

// Whether this build has the libraries for NormalFormC and Regex.
bool HasPatternLibraries();

// Converts `text`, which must be valid UTF-8, to normal form C. Requires HasPatternLibraries().
std::string NormalFormC(std::string_view text);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_PATTERNS_NORMAL_FORM_H_
