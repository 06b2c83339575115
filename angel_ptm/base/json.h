// Parses untrusted JSON into nlohmann_json values, without exceptions and without excessive nesting. The parser is
// compiled once, in json.cc: every source file that instantiates it takes two seconds longer to compile.
#ifndef ANGEL_PTM_BASE_JSON_H_
#define ANGEL_PTM_BASE_JSON_H_

#include <nlohmann/json_fwd.hpp>
#include <string_view>

namespace angel_ptm {

// The deepest nesting accepted. Beyond some depth, code that walks values recursively (printing, copying) could
// overflow the stack. None of the project's formats nests deeper than 6.
inline constexpr int kJsonNestingMax = 64;

// True if lists and objects nest deeper than kJsonNestingMax. Exact for valid JSON; for other text, which the parser
// refuses anyway, the result is arbitrary.
bool NestsTooDeep(std::string_view json);

// Returns the value of `text`; ParseOrderedJson keeps the order of keys. Text that is not JSON or nests too deep gives
// a `discarded` value, which is not an object, list, string or number.
nlohmann::json ParseJson(std::string_view text);
nlohmann::ordered_json ParseOrderedJson(std::string_view text);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_BASE_JSON_H_
