// How deep a JSON text may nest before code that walks its values by recursion (printing, copying) is in danger of the
// stack's end. Parsers of files ask before they parse; none of our formats nests deeper than 6.
#ifndef ANGEL_PTM_BASE_JSON_NESTING_H_
#define ANGEL_PTM_BASE_JSON_NESTING_H_

#include <string_view>

namespace angel_ptm {

inline constexpr int kJsonNestingMax = 64;

// True if lists and objects nest deeper than kJsonNestingMax. Exact for JSON; anything for other text, which a parser
// refuses anyway.
bool NestsTooDeep(std::string_view json);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_BASE_JSON_NESTING_H_
