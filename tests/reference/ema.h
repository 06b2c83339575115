// Exponential moving average (Polyak & Juditsky 1992), fp64.
#ifndef ANGEL_PTM_TESTS_REFERENCE_EMA_H_
#define ANGEL_PTM_TESTS_REFERENCE_EMA_H_

namespace angel_ptm::reference {

// One step for one element.
void Ema(double* ema, double param, double decay);

}  // namespace angel_ptm::reference

#endif  // ANGEL_PTM_TESTS_REFERENCE_EMA_H_
