// JSON files whose first line is {"checksum": "<16 digits>", and holds the XXH64 of all bytes behind that line.
#ifndef ANGEL_PTM_DATA_SEALED_JSON_H_
#define ANGEL_PTM_DATA_SEALED_JSON_H_

#include <string>
#include <string_view>

namespace angel_ptm {

// `object` is a JSON object dumped with an indentation of 2.
std::string SealJson(std::string_view object);

// What is wrong with the first line's checksum, or "". *sealed: whether there is such a line.
std::string WrongSeal(std::string_view text, bool* sealed);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_SEALED_JSON_H_
