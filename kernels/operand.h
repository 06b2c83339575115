// Operands of kernels: an address and the type of the elements there.
#ifndef ANGEL_PTM_KERNELS_OPERAND_H_
#define ANGEL_PTM_KERNELS_OPERAND_H_

#include <cstdint>

#include "angel_ptm/base/dtype.h"

namespace angel_ptm {

struct ConstOperand {
  const void* data = nullptr;
  DType dtype = DType::kFloat32;
  template <typename T>
  const T* as() const {
    return static_cast<const T*>(data);
  }
  explicit operator bool() const { return data != nullptr; }
};

struct Operand {
  void* data = nullptr;
  DType dtype = DType::kFloat32;
  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }
  explicit operator bool() const { return data != nullptr; }
};

// The operand that starts at element `element` of `operand`.
inline Operand At(const Operand& operand, int64_t element) {
  return {static_cast<char*>(operand.data) + element * SizeOf(operand.dtype), operand.dtype};
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPERAND_H_
