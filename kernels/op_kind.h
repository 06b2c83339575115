// The kinds of ops, one per line of ops.def.
#ifndef ANGEL_PTM_KERNELS_OP_KIND_H_
#define ANGEL_PTM_KERNELS_OP_KIND_H_

#include <cstdint>

namespace angel_ptm {

enum class OpKind : uint8_t {
#define APTM_OP(Kind, name) k##Kind,
#define APTM_EXCHANGE APTM_OP
#include "kernels/ops.def"
};

inline constexpr const char* kOpNames[] = {
#define APTM_OP(Kind, name) #Kind,
#define APTM_EXCHANGE APTM_OP
#include "kernels/ops.def"
};
inline constexpr int kOpKindCount = static_cast<int>(sizeof(kOpNames) / sizeof(kOpNames[0]));

// Whether the op exchanges data between ranks. Communicators run such an op on the comm lane; it has no kernel.
constexpr bool IsExchange(OpKind kind) {
  switch (kind) {
#define APTM_OP(Kind, name)
#define APTM_EXCHANGE(Kind, name) case OpKind::k##Kind:
#include "kernels/ops.def"
    return true;
    default:
      return false;
  }
}

inline const char* Name(OpKind kind) { return kOpNames[static_cast<int>(kind)]; }

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OP_KIND_H_
