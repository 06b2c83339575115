// Runs a function as every rank of a world, each rank a thread of this process.
#ifndef ANGEL_PTM_TESTS_SUPPORT_RANKS_H_
#define ANGEL_PTM_TESTS_SUPPORT_RANKS_H_

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "comm/local.h"

namespace angel_ptm {

// Runs fn(Communicator&), which returns absl::Status, as every rank. Returns the results by rank, for tests that expect
// errors. A rank's communicator is destroyed when its fn returns; peers that still wait for it get kUnavailable.
template <typename Fn>
std::vector<absl::Status> StatusOfRanks(int size, Fn&& fn, WaitOptions options = {.timeout_seconds = 60.0}) {
  LocalWorld world(size, std::move(options));
  std::vector<absl::Status> results(static_cast<size_t>(size));
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < size; ++rank) {
      threads.emplace_back([&, rank] {
        const std::unique_ptr<Communicator> comm = world.Create(rank);
        results[static_cast<size_t>(rank)] = fn(*comm);
      });
    }
  }
  return results;
}

// Runs fn(Communicator&), which returns void or absl::Status, as every rank; an error of any rank is a test failure.
template <typename Fn>
void RunRanks(int size, Fn&& fn, WaitOptions options = {.timeout_seconds = 60.0}) {
  const std::vector<absl::Status> results = StatusOfRanks(
      size,
      [&](Communicator& comm) -> absl::Status {
        if constexpr (std::is_void_v<std::invoke_result_t<Fn&, Communicator&>>) {
          fn(comm);
          return absl::OkStatus();
        } else {
          return fn(comm);
        }
      },
      std::move(options));
  for (size_t rank = 0; rank < results.size(); ++rank) {
    EXPECT_TRUE(results[rank].ok()) << "rank " << rank << ": " << results[rank];
  }
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_SUPPORT_RANKS_H_
