#include "comm/mpi.h"

#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string_view>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "comm/mpi_call.h"
#include "comm/mpi_messages.h"
#include "comm/mpi_node.h"
#include "comm/running_time.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/lsan_interface.h>
#endif

namespace angel_ptm {
namespace {

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

// Calls on_late unless it is destroyed within `seconds` of running time.
class Deadline {
 public:
  Deadline(double seconds, const std::function<void()>& on_late) {
    if (!on_late) return;
    thread_ = std::thread([this, seconds, on_late] {
      RunningTime time;
      std::unique_lock lock(mutex_);
      while (!wake_.wait_for(lock, std::chrono::milliseconds(100), [this] { return met_; })) {
        time.Look();
        if (time.seconds() > seconds) return on_late();
      }
    });
  }
  ~Deadline() {
    {
      const std::lock_guard lock(mutex_);
      met_ = true;
    }
    wake_.notify_all();
    if (thread_.joinable()) thread_.join();
  }

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  bool met_ = false;
  std::thread thread_;
};

// Identifies this machine: its name and its boot ID.
constexpr size_t kMachineKeyBytes = 128, kAsIfBytes = 24;

std::string MachineKey() {
  std::string key(kMachineKeyBytes, '\0');
  gethostname(key.data(), 64);
  if (std::FILE* file = std::fopen("/proc/sys/kernel/random/boot_id", "re"); file != nullptr) {
    // A machine without a boot ID is known by its name.
    if (std::fread(key.data() + 64, 1, 36, file) != 36) std::fill(key.begin() + 64, key.end(), '\0');
    std::fclose(file);
  }
  return key;
}

}  // namespace

MpiWorld::MpiWorld(int rank, int size, double limit_seconds)
    : rank_(rank),
      size_(size),
      meeting_(rank, size, limit_seconds),
      next_message_tag_(kFirstCommunicatorTag),
      next_group_tag_(std::make_shared<int>(kFirstGroupTag)) {}

absl::StatusOr<std::unique_ptr<MpiWorld>> MpiWorld::Start(double limit_seconds, double init_seconds,
                                                          const std::function<void()>& on_stuck) {
  int provided = 0, rank = 0, size = 1;
  {
    const Deadline deadline(init_seconds, on_stuck);
    ANGEL_PTM_MPI_CALL(InitMpi, &provided);
  }
  if (provided < MPI_THREAD_MULTIPLE) {
    return absl::FailedPreconditionError("this MPI library has no MPI_THREAD_MULTIPLE");
  }
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  ANGEL_PTM_MPI_CALL(MPI_Comm_rank, MPI_COMM_WORLD, &rank);
  ANGEL_PTM_MPI_CALL(MPI_Comm_size, MPI_COMM_WORLD, &size);
  return std::unique_ptr<MpiWorld>(new MpiWorld(rank, size, limit_seconds));
}

absl::StatusOr<std::unique_ptr<MpiWorld>> MpiWorld::Init(double limit_seconds) {
  ASSIGN_OR_RETURN(std::unique_ptr<MpiWorld> world, Start(limit_seconds, limit_seconds, nullptr));
  RETURN_IF_ERROR(world->FindMachines());
  return world;
}

absl::Status MpiWorld::FindMachines(std::string_view as_if_on) {
  struct Place {
    int node_rank = 0, node_size = 0, node_count = 0, first = 0, regular = 0;
  };
  std::string mine = MachineKey();
  mine.replace(kMachineKeyBytes - kAsIfBytes, kAsIfBytes, as_if_on.substr(0, kAsIfBytes));
  mine.resize(kMachineKeyBytes);
  Place place;
  RETURN_IF_ERROR(meeting_.Meet(
      "the start", std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(&place, 1)),
      [&](std::span<const std::byte> reports, std::span<std::byte> answers) {
        std::map<std::string_view, std::vector<int>> machines;
        const char* keys = reinterpret_cast<const char*>(reports.data());
        for (int r = 0; r < size_; ++r) machines[{keys + r * kMachineKeyBytes, kMachineKeyBytes}].push_back(r);
        first_of_node_.resize(static_cast<size_t>(size_));
        const bool regular = std::ranges::all_of(machines, [&](const auto& machine) {
          const std::vector<int>& ranks = machine.second;
          return ranks.size() == machines.begin()->second.size() &&
                 ranks.back() - ranks.front() == static_cast<int>(ranks.size()) - 1;
        });
        for (const auto& [key, ranks] : machines) {
          for (size_t i = 0; i < ranks.size(); ++i) {
            first_of_node_[static_cast<size_t>(ranks[i])] = ranks[0];
            const Place answer{static_cast<int>(i), static_cast<int>(ranks.size()), static_cast<int>(machines.size()),
                               ranks[0], regular};
            std::memcpy(answers.data() + static_cast<size_t>(ranks[i]) * sizeof(Place), &answer, sizeof(Place));
          }
        }
      }));
  node_rank_ = place.node_rank;
  node_size_ = place.node_size;
  node_count_ = place.node_count;
  node_first_ = place.first;
  nodes_are_regular_ = place.regular != 0;
  return absl::OkStatus();
}

MpiWorld::~MpiWorld() { MPI_Finalize(); }

absl::StatusOr<std::unique_ptr<Communicator>> MpiWorld::Create(WaitOptions options, MpiTransport transport,
                                                               int64_t transfer_bytes_max) {
  std::string description = "messages";
  if (transport != MpiTransport::kMessages) {
    absl::StatusOr<std::unique_ptr<Communicator>> node =
        CreateMpiNodeCommunicator(*this, options, std::min(transfer_bytes_max, kStagingBytes));
    if (node.ok()) {
      transport_description_ = "direct reads";
      return node;
    }
    // Codes other than kUnavailable are failures of MPI itself.
    if (transport == MpiTransport::kDirectReads || !absl::IsUnavailable(node.status())) return node;
    absl::StrAppend(&description, " (", std::string(node.status().message()), ")");
  }
  std::shared_ptr<MpiArenas> arenas;
  if (transport == MpiTransport::kAuto && node_count_ > 1 && node_count_ < size_) {
    // Find out whether the ranks of a machine can map each other's memory.
    const absl::Status shared = ShareMemory(1).status();
    if (!shared.ok() && !absl::IsUnavailable(shared)) return shared;
    if (shared.ok()) arenas = std::make_shared<MpiArenas>(rank_, size_, node_first_);
    absl::StrAppend(&description, shared.ok() ? ", direct reads inside a machine"
                                              : absl::StrCat(", inside too: ", std::string(shared.message())));
  }
  APTM_CHECK(next_message_tag_ < kFirstGroupTag, "too many communicators");
  transport_description_ = description;
  return std::unique_ptr<Communicator>(
      std::make_unique<MpiMessageCommunicator>(Group::World(rank_, size_), next_message_tag_++, next_group_tag_,
                                               std::move(arenas), std::move(options), transfer_bytes_max));
}

absl::StatusOr<std::unique_ptr<SharedMemory>> MpiWorld::ShareMemory(int64_t bytes) {
  using Handle = SharedMemory::Handle;
  absl::StatusOr<std::unique_ptr<SharedMemory>> memory(nullptr);
  Handle mine, first;
  if (node_rank_ == 0) {
    memory = SharedMemory::Create(bytes);
    if (memory.ok()) mine = (*memory)->handle();
  }
  RETURN_IF_ERROR(meeting_.Meet(
      "the sharing of memory", std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(&first, 1)),
      [&](std::span<const std::byte> reports, std::span<std::byte> answers) {
        for (int r = 0; r < size_; ++r) {
          const size_t from = static_cast<size_t>(first_of_node_[static_cast<size_t>(r)]) * sizeof(Handle);
          std::memcpy(answers.data() + static_cast<size_t>(r) * sizeof(Handle), reports.data() + from, sizeof(Handle));
        }
      }));
  if (node_rank_ != 0) {
    memory = first.descriptor >= 0
                 ? SharedMemory::Open(first, SharedMemory::Access::kReadWrite)
                 : absl::StatusOr<std::unique_ptr<SharedMemory>>(absl::UnavailableError("its creator has none"));
  }
  RETURN_IF_ERROR(meeting_.Agree("the opening of shared memory", memory.status()));
  (*memory)->CloseDescriptor();
  return memory;
}

void MpiWorld::Abort(int exit_code) {
  std::fflush(nullptr);
  MPI_Abort(MPI_COMM_WORLD, exit_code);
  std::_Exit(exit_code);
}

}  // namespace angel_ptm
