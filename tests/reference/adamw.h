// AdamW with decoupled decay (Loshchilov & Hutter 2019, algorithm 2), fp64.
#ifndef ANGEL_PTM_TESTS_REFERENCE_ADAMW_H_
#define ANGEL_PTM_TESTS_REFERENCE_ADAMW_H_

#include <cstdint>

namespace angel_ptm::reference {

// One step t >= 1 with the textbook running averages, for one element.
void AdamW(double* param, double* m, double* v, double grad, int64_t t, double learning_rate, double beta1,
           double beta2, double epsilon, double weight_decay);

}  // namespace angel_ptm::reference

#endif  // ANGEL_PTM_TESTS_REFERENCE_ADAMW_H_
