#include "tests/reference/embedding.h"

namespace angel_ptm::reference {

void Embedding(double* y, const double* table, const int32_t* tokens, int64_t t, int64_t h) {
  for (int64_t i = 0; i < t; ++i) {
    for (int64_t j = 0; j < h; ++j) y[i * h + j] = table[tokens[i] * h + j];
  }
}

void EmbeddingGrad(double* dtable, const double* dy, const int32_t* tokens, int64_t t, int64_t h) {
  for (int64_t i = 0; i < t; ++i) {
    for (int64_t j = 0; j < h; ++j) dtable[tokens[i] * h + j] += dy[i * h + j];
  }
}

}  // namespace angel_ptm::reference
