// Memory for direct I/O, whose content is generated from a seed.
#ifndef ANGEL_PTM_TESTS_MEMORY_ALIGNED_BYTES_H_
#define ANGEL_PTM_TESTS_MEMORY_ALIGNED_BYTES_H_

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "angel_ptm/memory/block_file.h"

namespace angel_ptm {

// Initially all bytes are 0xEE, which no test expects to read.
class AlignedBytes {
 public:
  explicit AlignedBytes(int64_t bytes)
      : bytes_(bytes),
        data_(static_cast<std::byte*>(std::aligned_alloc(kFileAlignment, static_cast<size_t>(bytes))), &std::free) {
    std::memset(data(), 0xEE, static_cast<size_t>(bytes));
  }
  std::byte* data() const { return data_.get(); }
  int64_t bytes() const { return bytes_; }

  void Fill(int64_t begin, int64_t n, uint64_t seed) {
    uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
    for (int64_t at = begin; at < begin + n; at += 8) {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      std::memcpy(data() + at, &state, 8);
    }
  }
  bool Equals(const AlignedBytes& other) const {
    return bytes_ == other.bytes_ && std::memcmp(data(), other.data(), static_cast<size_t>(bytes_)) == 0;
  }

 private:
  int64_t bytes_;
  std::unique_ptr<std::byte, decltype(&std::free)> data_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_MEMORY_ALIGNED_BYTES_H_
