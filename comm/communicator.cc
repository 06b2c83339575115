#include "comm/communicator.h"

#include <algorithm>

namespace angel_ptm {

int64_t Communicator::ReduceScratchBytes(int64_t n, int size) {
  const int64_t slice_bytes = (n * int64_t{sizeof(float)} + 63) / 64 * 64;
  return size * std::min(slice_bytes, kReducePieceBytes);
}

}  // namespace angel_ptm
