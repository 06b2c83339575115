// How ranks agree on what each one learns alone: which rank failed, what rank 0 has chosen, and whether their copies of
// the state are bit-identical.
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

// Collective. Returns OK if `own` is OK on every rank. Otherwise every rank returns the error of the lowest failing
// rank, prefixed with "rank <n>: " unless that is rank 0.
absl::Status ShareStatus(const absl::Status& own, CallTag tag, Communicator& communicator);

// Collective. Returns on every rank what rank 0 passes, text or error. The other ranks' `own` is ignored.
absl::StatusOr<std::string> ShareFromRankZero(const absl::StatusOr<std::string>& own, CallTag tag,
                                              Communicator& communicator);

// Sums arrays over all ranks. Each rank adds up one part of the array, so the bytes that a rank sends do not grow with
// the number of ranks. The buffers outlive a call that fails, as Communicator requires.
class RankSums {
 public:
  // Collective. Replaces values[i] by its sum over all ranks. Every rank must pass the same number of values.
  absl::Status Sum(std::span<int64_t> values, CallTag tag, Communicator& communicator);

 private:
  std::vector<int64_t> sent_, received_, part_;
};

// Collective. Returns kDataLoss, naming the ranks, if ranks that each keep a whole copy of the same state (ZeRO stages
// 0 to 2) do not have the same bits. Gradients are not compared.
absl::Status CheckReplicas(std::span<const StateView> views, int64_t step, Communicator& communicator);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_AGREEMENT_H_
