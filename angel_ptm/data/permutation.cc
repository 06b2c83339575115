#include "angel_ptm/data/permutation.h"

#include <algorithm>
#include <bit>

#include "angel_ptm/base/check.h"
#include "angel_ptm/base/random.h"

namespace angel_ptm {
namespace {

// Luby and Rackoff (1988) need four rounds; six leave a margin for the small halves of small datasets.
constexpr uint32_t kRounds = 6;

}  // namespace

Permutation::Permutation(int64_t size, uint64_t seed, uint64_t epoch)
    : size_(static_cast<uint64_t>(size)), seed_(seed), epoch_(epoch) {
  APTM_CHECK(size >= 1, size);
  half_bits_ = std::max(1, (static_cast<int>(std::bit_width(size_ - 1)) + 1) / 2);
}

uint64_t Permutation::Encrypt(uint64_t value) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t left = value >> half_bits_, right = value & mask;
  for (uint32_t round = 0; round < kRounds; ++round) {
    // Halves have at most 32 bits, so one counter word holds the input and one output word the result.
    const auto words = Philox(
        {static_cast<uint32_t>(right), round, static_cast<uint32_t>(epoch_), static_cast<uint32_t>(epoch_ >> 32)},
        {static_cast<uint32_t>(seed_), static_cast<uint32_t>(seed_ >> 32)});
    const uint64_t next = left ^ (words[0] & mask);
    left = right;
    right = next;
  }
  return left << half_bits_ | right;
}

int64_t Permutation::operator()(int64_t index) const {
  APTM_CHECK(index >= 0 && static_cast<uint64_t>(index) < size_, index, " of ", size_);
  uint64_t value = static_cast<uint64_t>(index);
  do {
    value = Encrypt(value);
  } while (value >= size_);
  return static_cast<int64_t>(value);
}

}  // namespace angel_ptm
