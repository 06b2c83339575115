#include "comm/nodes.h"

#include <utility>

#include "angel_ptm/base/check.h"
#include "comm/forwarding_communicator.h"

namespace angel_ptm {
namespace {

class NodesCommunicator final : public ForwardingCommunicator {
 public:
  NodesCommunicator(Communicator& world, std::unique_ptr<Communicator> inside, std::unique_ptr<Communicator> across)
      : ForwardingCommunicator(world),
        inside_(std::move(inside)),
        across_(std::move(across)),
        levels_{inside_.get(), across_.get()} {}

  const CommunicatorLevels* levels() const override { return &levels_; }

  absl::Status AllGather(std::span<std::byte> dst, std::span<const std::byte> src, CallTag tag) override {
    return Communicator::AllGather(dst, src, tag);
  }
  absl::Status AllGatherInPlace(const GatheredBlocks& all, CallTag tag) override {
    if (all.rows != 1) return inner().AllGatherInPlace(all, tag);
    const int64_t node_stride = inside_->size() * all.stride;
    RETURN_IF_ERROR(across_->AllGatherInPlace({all.At(inside_->rank()), node_stride, all.bytes}, tag));
    return inside_->AllGatherInPlace({all.data, all.stride, all.bytes, across_->size(), node_stride}, tag);
  }
  absl::Status ReadBlocks(const SendBlocks& src, std::span<std::byte> scratch, BlockReader read, CallTag tag) override {
    return inner().ReadBlocks(src, scratch, read, tag);
  }
  void KeepAlive(std::shared_ptr<const void> memory) override {
    inside_->KeepAlive(memory);
    across_->KeepAlive(memory);
    ForwardingCommunicator::KeepAlive(std::move(memory));
  }

 private:
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
