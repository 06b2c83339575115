// Rates of this machine: matrix products, memory, files; of several ranks at once.
#ifndef ANGEL_PTM_LAUNCH_MACHINE_RATES_H_
#define ANGEL_PTM_LAUNCH_MACHINE_RATES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "angel_ptm/base/dtype.h"
#include "angel_ptm/base/status.h"
#include "kernels/kernels.h"

namespace angel_ptm {

struct ProductShape {
  int64_t m = 0, n = 0, k = 0;
  double flops() const { return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k); }
};

// FLOP/s of a rank's product of that shape by the backend, while all ranks compute it: the median of a few in
// `seconds`.
double MatrixRate(const KernelTable& kernels, DType type, const ProductShape& shape, int ranks, int threads,
                  double seconds);

struct MemoryRates {
  double node = 0;  // bytes read and written per second by all threads of all ranks copying
  double copy = 0;  // bytes copied per second by one thread of each rank at once, for one rank
};
MemoryRates MeasureMemory(int ranks, int threads);

struct FileRate {
  int64_t request_bytes = 0;
  int depth = 0;
  double write = 0, read = 0, both = 0;  // bytes/s
  double cores = 0;                      // that a transfer kept busy
};
// Of the file store in that directory, by request size and depth. Errors: FileStore's.
absl::StatusOr<std::vector<FileRate>> MeasureFiles(const std::string& directory, bool allow_buffered);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_MACHINE_RATES_H_
