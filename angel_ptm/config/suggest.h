// Help for a mistyped name in an error message.
#ifndef ANGEL_PTM_CONFIG_SUGGEST_H_
#define ANGEL_PTM_CONFIG_SUGGEST_H_

#include <cstddef>
#include <string>
#include <vector>

namespace angel_ptm {

// Levenshtein distance in bytes: the fewest insertions, deletions and substitutions that turn `a` into `b`.
size_t EditDistance(const std::string& a, const std::string& b);

// Returns the name in `valid` that was probably meant by `wrong`, as a pointer into `valid`; nullptr if none is near.
const std::string* NearestName(const std::string& wrong, const std::vector<std::string>& valid);

// Returns "did you mean 'x'? valid names: x, y, z", without the question if no valid name is near `wrong`.
std::string SuggestName(const std::string& wrong, const std::vector<std::string>& valid);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_CONFIG_SUGGEST_H_
