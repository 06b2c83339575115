#include "tests/reference/qk_rope_norm.h"

#include <vector>

#include "tests/reference/rms_norm.h"
#include "tests/reference/rope.h"

namespace angel_ptm::reference {

void QkRopeNorm(double* q, double* k, double* q_rstd, double* k_rstd, const double* qkv, const double* cos_sin,
                const double* q_weight, const double* k_weight, const QkShape& shape) {
  const int64_t d = shape.d;
  std::vector<double> rotated(d);
  for (int64_t token = 0; token < shape.t; ++token) {
    const double* row = qkv + token * (shape.q_heads + 2 * shape.kv_heads) * d;
    for (int64_t head = 0; head < shape.q_heads + shape.kv_heads; ++head) {
      const bool is_query = head < shape.q_heads;
      Rotate(rotated.data(), row + head * d, cos_sin + token * d, d, false);
      const int64_t at = is_query ? token * shape.q_heads + head : token * shape.kv_heads + head - shape.q_heads;
      RmsNorm((is_query ? q : k) + at * d, (is_query ? q_rstd : k_rstd) + at, rotated.data(),
              is_query ? q_weight : k_weight, 1, d, shape.epsilon);
    }
  }
}

void QkRopeNormGrad(double* dqkv, double* dq_weight, double* dk_weight, const double* dq, const double* dk,
                    const double* qkv, const double* cos_sin, const double* q_weight, const double* k_weight,
                    const QkShape& shape) {
  const int64_t d = shape.d;
  std::vector<double> rotated(d), drotated(d);
  for (int64_t token = 0; token < shape.t; ++token) {
    const int64_t row = token * (shape.q_heads + 2 * shape.kv_heads) * d;
    for (int64_t head = 0; head < shape.q_heads + shape.kv_heads; ++head) {
      const bool is_query = head < shape.q_heads;
      Rotate(rotated.data(), qkv + row + head * d, cos_sin + token * d, d, false);
      const double* dy =
          is_query ? dq + (token * shape.q_heads + head) * d : dk + (token * shape.kv_heads + head - shape.q_heads) * d;
      RmsNormGrad(drotated.data(), is_query ? dq_weight : dk_weight, dy, rotated.data(), is_query ? q_weight : k_weight,
                  1, d, shape.epsilon);
      Rotate(dqkv + row + head * d, drotated.data(), cos_sin + token * d, d, true);
    }
  }
}

}  // namespace angel_ptm::reference
