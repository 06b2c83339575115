// Rates of machines: matrix products, memory, files, the network. Except for files, all ranks of a communicator measure
// at the same time, as runs use a machine. The functions are collective and return the same result on every rank.
#ifndef ANGEL_PTM_LAUNCH_MACHINE_RATES_H_
#define ANGEL_PTM_LAUNCH_MACHINE_RATES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "angel_ptm/base/dtype.h"
#include "angel_ptm/base/status.h"
#include "comm/communicator.h"
#include "kernels/kernels.h"

namespace angel_ptm {

struct ProductShape {
  int64_t m = 0, n = 0, k = 0;
  double flops() const { return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k); }
};

// By rank, the FLOP/s of the backend's product of that shape, with all ranks computing: the median of a few in
// `seconds`.
absl::StatusOr<std::vector<double>> MatrixRates(const KernelTable& kernels, DType type, const ProductShape& shape,
                                                int threads, double seconds, Communicator& ranks);

struct MemoryRates {
  double node = 0;  // bytes read and written per second while all threads of all ranks copy
  double copy = 0;  // bytes copied per second by a rank while one thread of each rank copies
};
// `ranks` must be those of one machine.
absl::StatusOr<MemoryRates> MeasureMemory(int threads, Communicator& ranks);

struct FileRate {
  int64_t request_bytes = 0;
  int depth = 0;
  double write = 0, read = 0, both = 0;  // bytes/s
  double cores = 0;                      // number of cores that a transfer kept busy
};
// Measures the file store in that directory by request size and depth, on rank 0 of `ranks` only. Errors: those of
// FileStore, the same on all ranks.
absl::StatusOr<std::vector<FileRate>> MeasureFiles(const std::string& directory, bool allow_buffered,
                                                   Communicator& ranks);

struct NetworkRate {
  double bytes_per_second = 0;  // of an all-gather of 64 MiB, counting what a rank has afterwards
  double latency_seconds = 0;   // of an all-gather of 64 bytes per rank
};
// Medians of a few calls, on the slowest of `ranks`. Collective over `world`; `ranks` is the world or a group of it.
absl::StatusOr<NetworkRate> MeasureNetwork(Communicator& ranks, Communicator& world);

// Returns on all ranks the first status that is not OK, with its rank named. Collective.
absl::Status AgreeOn(const absl::Status& status, Communicator& ranks);
// Returns every rank's value, by rank. Collective.
absl::StatusOr<std::vector<double>> ValuesOf(double own, Communicator& ranks);
absl::StatusOr<std::vector<std::string>> TextsOf(const std::string& own, Communicator& ranks);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_MACHINE_RATES_H_
