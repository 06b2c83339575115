#include "tests/reference/ema.h"

namespace angel_ptm::reference {

void Ema(double* ema, double param, double decay) { *ema = decay * *ema + (1 - decay) * param; }

}  // namespace angel_ptm::reference
