// The worlds that the communicator suite runs on. Each test program links one implementation: local (ranks are threads)
// or MPI (this process is one rank, and every rank runs the same tests).
#ifndef ANGEL_PTM_TESTS_COMM_WORLD_UNDER_TEST_H_
#define ANGEL_PTM_TESTS_COMM_WORLD_UNDER_TEST_H_

#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/wait_options.h"

namespace angel_ptm {

struct TestWorld {
  // Whether calls of all ranks use messages. On machines they do, and only calls inside one machine do not.
  bool by_messages() const { return transport.starts_with("messages") || on_machines(); }
  bool on_machines() const { return transport.starts_with("machines"); }
  bool has_arenas() const { return size > 1 && (transport.starts_with("direct_reads") || on_machines()); }

  std::string transport;
  int size = 1;
};
inline std::ostream& operator<<(std::ostream& os, const TestWorld& world) {
  return os << world.transport << "_" << world.size;
}

std::vector<TestWorld> TestWorlds();

// Runs fn on every rank, each with its own communicator. With MPI only this process's rank runs here.
void RunWorld(const TestWorld& world, const std::function<void(Communicator&)>& fn,
              WaitOptions options = {.timeout_seconds = 60.0});

// Called inside RunWorld's fn: keeps the calling rank out of every communicator (all stay alive) until all ranks have
// called it. A "late" peer is thus late as long as the others take, and no longer.
void MeetOutside();

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_COMM_WORLD_UNDER_TEST_H_
