// Looks up rows of a table by token; the gradient scatters. fp64.
#ifndef ANGEL_PTM_TESTS_REFERENCE_EMBEDDING_H_
#define ANGEL_PTM_TESTS_REFERENCE_EMBEDDING_H_

#include <cstdint>

namespace angel_ptm::reference {

void Embedding(double* y, const double* table, const int32_t* tokens, int64_t t, int64_t h);
// dtable += dy scattered by tokens.
void EmbeddingGrad(double* dtable, const double* dy, const int32_t* tokens, int64_t t, int64_t h);

}  // namespace angel_ptm::reference

#endif  // ANGEL_PTM_TESTS_REFERENCE_EMBEDDING_H_
