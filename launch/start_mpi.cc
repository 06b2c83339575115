#include "launch/start_mpi.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "comm/mpi_environment.h"
#include "launch/last_word.h"
#include "launch/stop_signals.h"

namespace angel_ptm {

bool StartedByMpirun() {
  return StartedByMpiLauncher([](const char* name) { return std::getenv(name); });
}

absl::Status CheckThatProcessesMet(int world_size, const std::string& work) {
  const auto [name, processes] = LaunchedProcesses([](const char* variable) { return std::getenv(variable); });
  if (processes == world_size) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      name, " says that ", processes, " processes were started, MPI's world has ", world_size,
      ": they do not meet, and each would ", work,
      " alone; start them with the mpirun of the MPI library that angel-ptm was built with, with srun by --mpi=pmix"));
}

#ifdef ANGEL_PTM_WITH_MPI
absl::StatusOr<std::unique_ptr<MpiWorld>> StartMpi(double limit_seconds, const std::string& limit_name) {
  const int rank = LaunchedRank([](const char* variable) { return std::getenv(variable); });
  return MpiWorld::Start(limit_seconds, limit_seconds + 0.75 * std::min(rank, 2), [=] {
    // The launcher's SIGTERM means that another rank has reported.
    if (StopRequested().load()) std::_Exit(1);
    SayToUser(
        absl::StrFormat("rank %d has waited in MPI_Init for %g s (%s): another rank is stopped, hung or gone, or the "
                        "processes cannot reach each other",
                        rank, limit_seconds, limit_name));
    std::_Exit(1);
  });
}

void EndUnmet(MpiWorld& world, const absl::Status& status) {
  const bool speaks = world.meeting().speaks() || !absl::IsDeadlineExceeded(status);
  if (speaks) SayToUser(std::string(status.message()));
  if (!speaks) AwaitTheEnd(2);
  world.Abort(1);
}
#endif

}  // namespace angel_ptm
