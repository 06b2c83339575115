#include "comm/mpi.h"

#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "comm/mpi_call.h"
#include "comm/mpi_messages.h"
#include "comm/mpi_node.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/lsan_interface.h>
#endif

namespace angel_ptm {
namespace {

// mpirun ends all ranks, and what they still have to say, as soon as one aborts; what ends one rank as a rule ends
// others at the same time.
constexpr int kLastWordsMs = 500;

int InitMpi(int* provided) {
#if defined(__SANITIZE_ADDRESS__)
  __lsan_disable();  // MPI keeps what it allocates here until the process ends
  const int code = MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, provided);
  __lsan_enable();
  return code;
#else
  return MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, provided);
#endif
}

}  // namespace

absl::StatusOr<std::unique_ptr<MpiWorld>> MpiWorld::Init() {
  int provided = 0;
  ANGEL_PTM_MPI_CALL(InitMpi, &provided);
  if (provided < MPI_THREAD_MULTIPLE) {
    return absl::FailedPreconditionError("this MPI library has no MPI_THREAD_MULTIPLE");
  }
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  std::unique_ptr<MpiWorld> world(new MpiWorld);
  ANGEL_PTM_MPI_CALL(MPI_Comm_rank, MPI_COMM_WORLD, &world->rank_);
  ANGEL_PTM_MPI_CALL(MPI_Comm_size, MPI_COMM_WORLD, &world->size_);
  MPI_Comm node;
  ANGEL_PTM_MPI_CALL(MPI_Comm_split_type, MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
  ANGEL_PTM_MPI_CALL(MPI_Comm_rank, node, &world->node_rank_);
  ANGEL_PTM_MPI_CALL(MPI_Comm_size, node, &world->node_size_);
  ANGEL_PTM_MPI_CALL(MPI_Comm_free, &node);
  const int first_of_node = world->node_rank_ == 0 ? 1 : 0;
  ANGEL_PTM_MPI_CALL(MPI_Allreduce, &first_of_node, &world->node_count_, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  return world;
}

MpiWorld::~MpiWorld() { MPI_Finalize(); }

absl::StatusOr<std::unique_ptr<Communicator>> MpiWorld::Create(WaitOptions options, MpiTransport transport,
                                                               int64_t transfer_bytes_max) {
  std::string description = "messages";
  if (transport != MpiTransport::kMessages) {
    absl::StatusOr<std::unique_ptr<Communicator>> node = CreateMpiNodeCommunicator(*this, options, transfer_bytes_max);
    if (node.ok()) {
      transport_description_ = "direct reads";
      return node;
    }
    // Kinds other than kUnavailable are failures of MPI itself.
    if (transport == MpiTransport::kDirectReads || !absl::IsUnavailable(node.status())) return node;
    absl::StrAppend(&description, " (", std::string(node.status().message()), ")");
  }
  MPI_Comm comm;
  ANGEL_PTM_MPI_CALL(MPI_Comm_dup, MPI_COMM_WORLD, &comm);
  ANGEL_PTM_MPI_CALL(MPI_Comm_set_errhandler, comm, MPI_ERRORS_RETURN);
  transport_description_ = description;
  return std::unique_ptr<Communicator>(
      std::make_unique<MpiMessageCommunicator>(comm, std::move(options), transfer_bytes_max));
}

absl::StatusOr<std::string> MpiWorld::MakeSharedName(const std::string& directory) {
  std::array<int64_t, 2> key = {getpid(), std::chrono::system_clock::now().time_since_epoch().count()};
  ANGEL_PTM_MPI_CALL(MPI_Bcast, key.data(), 2, MPI_INT64_T, 0, MPI_COMM_WORLD);
  return absl::StrCat(directory, "/angel-ptm.", key[0], ".", absl::Hex(static_cast<uint64_t>(key[1])), ".",
                      names_made_++);
}

absl::Status MpiWorld::Meet() {
  ANGEL_PTM_MPI_CALL(MPI_Barrier, MPI_COMM_WORLD);
  return absl::OkStatus();
}

void MpiWorld::Abort(int exit_code) {
  std::fflush(nullptr);
  std::this_thread::sleep_for(std::chrono::milliseconds(kLastWordsMs));
  MPI_Abort(MPI_COMM_WORLD, exit_code);
  std::_Exit(exit_code);
}

}  // namespace angel_ptm
