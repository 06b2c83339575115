// JSON files with the first line {"checksum": "<16 digits>", which holds the XXH64 of all bytes after that line.
#ifndef ANGEL_PTM_DATA_SEALED_JSON_H_
#define ANGEL_PTM_DATA_SEALED_JSON_H_

#include <string>
#include <string_view>

namespace angel_ptm {

// `object` must be a JSON object dumped with an indentation of 2.
std::string SealJson(std::string_view object);

// Says what is wrong with the checksum in the first line, or returns "". *sealed: whether there is such a line.
std::string WrongSeal(std::string_view text, bool* sealed);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_SEALED_JSON_H_
