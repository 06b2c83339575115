// JSON texts as values of nlohmann_json, which may be anybody's: no exceptions, and nothing that nests too deep.
// Compiled once: a source that parses by itself costs two seconds more.
#ifndef ANGEL_PTM_BASE_JSON_H_
#define ANGEL_PTM_BASE_JSON_H_

#include <nlohmann/json_fwd.hpp>
#include <string_view>

namespace angel_ptm {

// How deep a text may nest before code that walks its values by recursion (printing, copying) is in danger of the
// stack's end. None of our formats nests deeper than 6.
inline constexpr int kJsonNestingMax = 64;

// True if lists and objects nest deeper than kJsonNestingMax. Exact for JSON; anything for other text, which a parser
// refuses anyway.
bool NestsTooDeep(std::string_view json);

// The text's value, ordered: with its keys as they are written. What is not JSON or nests too deep is `discarded`,
// which is no object, list, string or number.
nlohmann::json ParseJson(std::string_view text);
nlohmann::ordered_json ParseOrderedJson(std::string_view text);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_BASE_JSON_H_
