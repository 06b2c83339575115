// How ranks agree on what each of them finds out alone: who failed, what rank 0 has chosen, whether their copies of the
// state are the same bits.
#ifndef ANGEL_PTM_TRAIN_AGREEMENT_H_
#define ANGEL_PTM_TRAIN_AGREEMENT_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/exec/executor.h"
#include "comm/communicator.h"

namespace angel_ptm {

// Collective. OK if `own` is OK on every rank; otherwise, on every rank, the error of the first rank that has one, with
// "rank <n>: " before it unless it is rank 0's.
absl::Status ShareStatus(const absl::Status& own, CallTag tag, Communicator& communicator);

// Collective. What rank 0 passes, text or error, on every rank; the others' is not looked at.
absl::StatusOr<std::string> ShareFromRankZero(const absl::StatusOr<std::string>& own, CallTag tag,
                                              Communicator& communicator);

// Adds up what all ranks have, each a part of it, so that the bytes a rank sends do not grow with their number. Its
// buffers outlive a call that fails (Communicator).
class RankSums {
 public:
  // Collective. values[i] = the sum of all ranks' values[i], as many on each.
  absl::Status Sum(std::span<int64_t> values, CallTag tag, Communicator& communicator);

 private:
  std::vector<int64_t> sent_, received_, part_;
};

// Collective. kDataLoss, naming the ranks, if ranks that keep the same state whole (ZeRO stages 0 to 2) do not have the
// same bits of it. Gradients are not looked at.
absl::Status CheckReplicas(std::span<const StateView> views, int64_t step, Communicator& communicator);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_AGREEMENT_H_
