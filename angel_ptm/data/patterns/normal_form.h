// Unicode's normal forms of texts, by utf8proc.
#ifndef ANGEL_PTM_DATA_PATTERNS_NORMAL_FORM_H_
#define ANGEL_PTM_DATA_PATTERNS_NORMAL_FORM_H_

#include <string>
#include <string_view>

namespace angel_ptm {

// Whether this build has what the function below and Regex need.
bool HasPatternLibraries();

// `text`, valid UTF-8, in normal form C. Only where HasPatternLibraries().
std::string NormalFormC(std::string_view text);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_PATTERNS_NORMAL_FORM_H_
