#include "angel_ptm/exec/device_side.h"

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/exec/nccl_collectives.h"
#include "angel_ptm/exec/staged_collectives.h"
#include "angel_ptm/exec/stream_lane.h"
#include "comm/group.h"

namespace angel_ptm {
namespace {

absl::StatusOr<std::shared_ptr<NcclApi>> OpenNccl(const NcclOffer& offer) {
  const bool knows = offer.open && offer.sum != nullptr;
  return knows ? offer.open() : absl::FailedPreconditionError("this program has no NCCL for its GPUs");
}

// The groups that have several ranks.
std::vector<std::pair<RankGroup, Communicator*>> GroupsOf(Communicator& world, const MeshGroups* groups) {
  std::vector<std::pair<RankGroup, Communicator*>> all = {{RankGroup::kWorld, &world}};
  for (const RankGroup group : {RankGroup::kReplicas, RankGroup::kPlaces}) {
    if (groups != nullptr && groups->Of(group).size() > 1) all.emplace_back(group, &groups->Of(group));
  }
  return all;
}

}  // namespace

absl::StatusOr<std::unique_ptr<DeviceSide>> DeviceSide::Create(Device& device, const Layout& layout,
                                                               Communicator& communicator, int threads,
                                                               const CollectivesWish& wish, const MeshGroups* groups) {
  APTM_CHECK(wish.sums == SumsBy::kRankOrder || wish.way == CollectivesWish::Way::kNccl,
             "sums by an NCCL that may be none");
  std::unique_ptr<DeviceSide> side(new DeviceSide(device));
  for (const Lane lane : {Lane::kCompute, Lane::kComm, Lane::kCopyIn, Lane::kCopyOut}) {
    ASSIGN_OR_RETURN(side->streams_[static_cast<int>(lane)], DeviceStream::Create(device));
  }
  if (communicator.size() == 1) return side;
  std::string reason;
  std::shared_ptr<NcclApi> nccl;
  if (wish.way != CollectivesWish::Way::kStaged) {
    ASSIGN_OR_RETURN(nccl, Agree(wish, communicator, &reason));
  }
  if (nccl == nullptr) {
    RETURN_IF_ERROR(side->Stage(layout, communicator, threads, groups));
    if (!reason.empty()) absl::StrAppend(&side->collectives_text_, " (", reason, ")");
    return side;
  }
  side->collectives_text_ = absl::StrCat("collectives: NCCL ", nccl->Version(),
                                         wish.sums == SumsBy::kNccl ? ", sums too (numerics.sums)" : "");
  const auto siblings = std::make_shared<NcclSiblings>();
  for (const auto& [of, ranks] : GroupsOf(communicator, groups)) {
    ASSIGN_OR_RETURN(side->collectives_[static_cast<int>(of)],
                     NcclCollectives::Create(nccl, wish, *ranks, *side->stream(Lane::kComm), siblings));
  }
  return side;
}

absl::Status DeviceSide::status() const {
  for (const auto& collectives : collectives_) {
    if (collectives != nullptr) RETURN_IF_ERROR(collectives->status());
  }
  return absl::OkStatus();
}

absl::Status DeviceSide::Close() {
  for (const auto& collectives : collectives_) {
    if (collectives != nullptr) RETURN_IF_ERROR(collectives->Close());
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<NcclApi>> DeviceSide::Agree(const CollectivesWish& wish, Communicator& communicator,
                                                           std::string* reason) {
  absl::StatusOr<std::shared_ptr<NcclApi>> mine = OpenNccl(wish.nccl);
  ASSIGN_OR_RETURN(const std::vector<uint8_t> has,
                   GatherWords(communicator, static_cast<uint8_t>(mine.ok()), {"who has NCCL"}));
  const auto without = std::ranges::find(has, 0);
  if (without == has.end()) return mine;
  *reason =
      mine.ok() ? absl::StrCat("rank ", without - has.begin(), " has no NCCL") : std::string(mine.status().message());
  if (wish.way == CollectivesWish::Way::kAuto) return nullptr;
  return absl::FailedPreconditionError(absl::StrCat("communication.device_transport: wanted NCCL, but ", *reason));
}

absl::Status DeviceSide::Stage(const Layout& layout, Communicator& communicator, int threads,
                               const MeshGroups* groups) {
  const int64_t bytes = StagingBytes(layout);
  ASSIGN_OR_RETURN(staging_memory_, communicator.MakeArena(bytes, threads, {"staging of collectives"}));
  if (staging_memory_ != nullptr) {
    ASSIGN_OR_RETURN(staging_lock_, device_.PageLock(staging_memory_.get(), bytes, "staging memory"));
  } else {
    ASSIGN_OR_RETURN(staging_memory_, device_.LockedMemory(bytes, "staging of collectives"));
  }
  const std::span<std::byte> staging = {staging_memory_.get(), static_cast<size_t>(bytes)};
  // The comm lane is in one call at a time, so all groups go through the same memory.
  for (const auto& [of, ranks] : GroupsOf(communicator, groups)) {
    collectives_[static_cast<int>(of)] = std::make_unique<StagedCollectives>(*ranks, *stream(Lane::kComm), staging);
  }
  collectives_text_ = absl::StrCat("beside the tiers: ", FormatBytes(bytes), " of host memory for collectives");
  return absl::OkStatus();
}

absl::StatusOr<Lanes::Queues> DeviceSide::MakeQueues() const {
  Lanes::Queues queues;
  for (const Lane lane : {Lane::kCompute, Lane::kCopyIn, Lane::kCopyOut}) {
    ASSIGN_OR_RETURN(queues[static_cast<int>(lane)], MakeStreamLane(*stream(lane)));
  }
  if (!alone(RankGroup::kWorld) && collectives(RankGroup::kWorld).on_stream()) {
    ASSIGN_OR_RETURN(queues[static_cast<int>(Lane::kComm)],
                     MakeStreamLane(*stream(Lane::kComm), [this] { return status(); }));
  }
  for (auto& queue : queues) {
    if (queue == nullptr) queue = MakeThreadLane();
  }
  return queues;
}

}  // namespace angel_ptm
