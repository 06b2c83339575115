// Ranks as threads of one process: for tests, for simulation and for a run of one rank.
#ifndef ANGEL_PTM_COMM_LOCAL_H_
#define ANGEL_PTM_COMM_LOCAL_H_

#include <memory>
#include <string_view>

#include "comm/communicator.h"
#include "comm/wait_options.h"

namespace angel_ptm {

class LocalWorld {
 public:
  explicit LocalWorld(int size, WaitOptions options = {});

  int size() const;

  // Returns the communicator of one rank, to be used by one thread at a time. Call it once per rank. The communicator
  // keeps what it needs alive and may outlive the world. Destroying it says that the rank has ended: peers that wait
  // for it, now or later, get kUnavailable.
  std::unique_ptr<Communicator> Create(int rank);
  // The same with options of its own, for a rank that has its own watcher.
  std::unique_ptr<Communicator> Create(int rank, WaitOptions options);

  // Ends every waiting and later call of all ranks with kUnavailable and this sentence.
  void Abort(std::string_view sentence);
  // OK, or the sentence of the first rank that failed: for code that waits outside a communicator.
  absl::Status status() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_LOCAL_H_
