#include "comm/mpi_relay.h"

#include <cstring>
#include <span>
#include <utility>

namespace angel_ptm {
namespace {

// A network answers in milliseconds, a busy machine later.
constexpr double kFirstAnswerSeconds = 3;

}  // namespace

absl::StatusOr<std::unique_ptr<MachineRelay>> CreateMpiRelay(MpiWorld& world, std::shared_ptr<ProgressBoard> board) {
  absl::StatusOr<std::unique_ptr<MachineRelay>> relay(nullptr);
  RelayHub mine, hub;
  if (world.rank() == 0) {
    relay = MachineRelay::AtHub(board);
    if (relay.ok()) mine = (*relay)->hub();
  }
  RETURN_IF_ERROR(world.meeting().Meet(
      "the exchange of addresses", std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(&hub, 1)),
      [&](std::span<const std::byte> reports, std::span<std::byte> answers) {
        for (int r = 0; r < world.size(); ++r) {
          std::memcpy(answers.data() + static_cast<size_t>(r) * sizeof(RelayHub), reports.data(), sizeof(RelayHub));
        }
      }));
  if (world.rank() != 0 && world.node_rank() == 0 && hub.address_count > 0) {
    relay = MachineRelay::ToHub(std::move(board), hub);
    if (relay.ok()) {
      if (absl::Status status = (*relay)->AwaitHub(kFirstAnswerSeconds); !status.ok()) relay = std::move(status);
    }
  }
  RETURN_IF_ERROR(world.meeting().Agree("the first signs of life", relay.status()));
  return relay;
}

}  // namespace angel_ptm
