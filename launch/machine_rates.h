// Rates of machines: matrix products, memory, files, the network. Each is measured by all ranks of a communicator at
// once, as runs use them: they call the same function together and get the same answer.
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

// FLOP/s of each rank's product of that shape by the backend, by rank: of each the median of a few in `seconds`.
absl::StatusOr<std::vector<double>> MatrixRates(const KernelTable& kernels, DType type, const ProductShape& shape,
                                                int threads, double seconds, Communicator& ranks);

struct MemoryRates {
  double node = 0;  // bytes read and written per second by all threads of all ranks copying
  double copy = 0;  // bytes copied per second by one thread of each rank at once, for one rank
};
// ranks: of one machine.
absl::StatusOr<MemoryRates> MeasureMemory(int threads, Communicator& ranks);

struct FileRate {
  int64_t request_bytes = 0;
  int depth = 0;
  double write = 0, read = 0, both = 0;  // bytes/s
  double cores = 0;                      // that a transfer kept busy
};
// Of the file store in that directory, by request size and depth; by rank 0 of `ranks` alone. Errors: FileStore's, the
// same on all.
absl::StatusOr<std::vector<FileRate>> MeasureFiles(const std::string& directory, bool allow_buffered,
                                                   Communicator& ranks);

struct NetworkRate {
  double bytes_per_second = 0;  // of an all-gather of 64 MiB: those that a rank has afterwards
  double latency_seconds = 0;   // of one of 64 bytes a rank
};
// Medians of a few calls, of the slowest rank of `ranks`. Collective over `world`, which ranks is or is a group of.
absl::StatusOr<NetworkRate> MeasureNetwork(Communicator& ranks, Communicator& world);

// The same status on all ranks: the first rank's that is not OK, which is named. Collective.
absl::Status AgreeOn(const absl::Status& status, Communicator& ranks);
// Every rank's value, by rank. Collective.
absl::StatusOr<std::vector<double>> ValuesOf(double own, Communicator& ranks);
absl::StatusOr<std::vector<std::string>> TextsOf(const std::string& own, Communicator& ranks);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_MACHINE_RATES_H_
