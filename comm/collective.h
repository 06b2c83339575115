// What a collective call looks like from outside: for error messages and for comparing ranks.
#ifndef ANGEL_PTM_COMM_COLLECTIVE_H_
#define ANGEL_PTM_COMM_COLLECTIVE_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "comm/communicator.h"

namespace angel_ptm {

enum class CollectiveVerb : uint8_t { kAllGather, kReduceScatter, kAllToAll, kBroadcast, kBarrier, kSplit, kArena };

// "all-gather", "reduce-scatter", ...
const char* Name(CollectiveVerb verb);

// One collective as a rank plans or calls it. `bytes` is the size of the verb's larger buffer: dst of an all-gather,
// src of a reduce-scatter, dst of an all-to-all or a broadcast, 0 for the others.
struct CollectiveEntry {
  CollectiveVerb verb = CollectiveVerb::kBarrier;
  std::string what;
  int64_t bytes = 0;

  friend bool operator==(const CollectiveEntry&, const CollectiveEntry&) = default;
};

// "all-gather layer.3.experts 12.0 MiB"; a barrier has no bytes.
std::string Describe(const CollectiveEntry& entry);

// `all-gather "gather layer.3" (step 12)`; without the step when it is negative.
std::string Describe(CollectiveVerb verb, const CallTag& tag);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_COLLECTIVE_H_
