#include "comm/nodes.h"

#include <utility>

#include "angel_ptm/base/check.h"

namespace angel_ptm {
namespace {

class NodesCommunicator final : public Communicator {
 public:
  NodesCommunicator(Communicator& world, std::unique_ptr<Communicator> inside, std::unique_ptr<Communicator> across)
      : world_(world), inside_(std::move(inside)), across_(std::move(across)), levels_{inside_.get(), across_.get()} {}

  int rank() const override { return world_.rank(); }
  int size() const override { return world_.size(); }
  int world_rank(int rank) const override { return world_.world_rank(rank); }
  const CommunicatorLevels* levels() const override { return &levels_; }

  absl::Status AllGatherInPlace(const GatheredBlocks& all, CallTag tag) override {
    if (all.rows != 1) return world_.AllGatherInPlace(all, tag);
    const int64_t node_stride = inside_->size() * all.stride;
    RETURN_IF_ERROR(across_->AllGatherInPlace({all.At(inside_->rank()), node_stride, all.bytes}, tag));
    return inside_->AllGatherInPlace({all.data, all.stride, all.bytes, across_->size(), node_stride}, tag);
  }
  absl::Status AllToAll(std::span<std::byte> dst, const SendBlocks& src, CallTag tag) override {
    return world_.AllToAll(dst, src, tag);
  }
  absl::Status ReadBlocks(const SendBlocks& src, std::span<std::byte> scratch, BlockReader read, CallTag tag) override {
    return world_.ReadBlocks(src, scratch, read, tag);
  }
  absl::Status Broadcast(std::span<std::byte> dst, int root, CallTag tag) override {
    return world_.Broadcast(dst, root, tag);
  }
  absl::Status Barrier(CallTag tag) override { return world_.Barrier(tag); }
  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, CallTag tag) override {
    return world_.Split(color, tag);
  }
  absl::StatusOr<std::shared_ptr<std::byte>> MakeArena(int64_t bytes, int threads, CallTag tag) override {
    return world_.MakeArena(bytes, threads, tag);
  }
  void KeepAlive(std::shared_ptr<const void> memory) override {
    inside_->KeepAlive(memory);
    across_->KeepAlive(memory);
    world_.KeepAlive(std::move(memory));
  }

 private:
  Communicator& world_;
  const std::unique_ptr<Communicator> inside_, across_;
  const CommunicatorLevels levels_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Communicator>> CreateNodes(Communicator& world, int ranks_per_node) {
  APTM_CHECK(ranks_per_node > 1 && ranks_per_node < world.size() && world.size() % ranks_per_node == 0, ranks_per_node,
             " ranks a node in a world of ", world.size());
  ASSIGN_OR_RETURN(std::unique_ptr<Communicator> inside,
                   world.Split(world.rank() / ranks_per_node, {"ranks of a node"}));
  ASSIGN_OR_RETURN(std::unique_ptr<Communicator> across,
                   world.Split(world.rank() % ranks_per_node, {"ranks at a place in their nodes"}));
  return std::make_unique<NodesCommunicator>(world, std::move(inside), std::move(across));
}

}  // namespace angel_ptm
