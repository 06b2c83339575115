// A small 64-bit digest for graphs and plans (not for data integrity: files use checksum.h).
#ifndef ANGEL_PTM_BASE_HASH_H_
#define ANGEL_PTM_BASE_HASH_H_

#include <cstdint>
#include <string_view>

namespace angel_ptm {

class Hasher {
 public:
  Hasher& Mix(uint64_t value) {
    // The finaliser of splitmix64, applied to the running state.
    state_ += value + 0x9e3779b97f4a7c15u;
    state_ = (state_ ^ (state_ >> 30)) * 0xbf58476d1ce4e5b9u;
    state_ = (state_ ^ (state_ >> 27)) * 0x94d049bb133111ebu;
    state_ ^= state_ >> 31;
    return *this;
  }
  Hasher& Mix(std::string_view text) {
    Mix(text.size());
    for (char c : text) Mix(static_cast<uint64_t>(static_cast<unsigned char>(c)));
    return *this;
  }
  uint64_t Digest() const { return state_; }

 private:
  uint64_t state_ = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_BASE_HASH_H_
