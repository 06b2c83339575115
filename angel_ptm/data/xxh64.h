// XXH64 with seed 0 (Yann Collet's specification, github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md): the checksum
// of token files and of tokenizer.json in a dataset. Little-endian machines only, as the file formats are.
#ifndef ANGEL_PTM_DATA_XXH64_H_
#define ANGEL_PTM_DATA_XXH64_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace angel_ptm {

uint64_t Xxh64(const void* data, size_t bytes);
inline uint64_t Xxh64(std::string_view text) { return Xxh64(text.data(), text.size()); }

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_XXH64_H_
