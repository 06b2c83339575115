// A Communicator that forwards every call to another one. Classes that regroup, change or count some of the calls
// derive from it.
#ifndef ANGEL_PTM_COMM_FORWARDING_COMMUNICATOR_H_
#define ANGEL_PTM_COMM_FORWARDING_COMMUNICATOR_H_

#include <memory>
#include <utility>

#include "comm/communicator.h"

namespace angel_ptm {

class ForwardingCommunicator : public Communicator {
 public:
  // Does not own `inner`.
  explicit ForwardingCommunicator(Communicator& inner) : inner_(inner) {}

  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  int world_rank(int rank) const override { return inner_.world_rank(rank); }
  absl::Status AllGather(std::span<std::byte> dst, std::span<const std::byte> src, CallTag tag) override {
    return inner_.AllGather(dst, src, tag);
  }
  absl::Status AllGatherInPlace(const GatheredBlocks& all, CallTag tag) override {
    return inner_.AllGatherInPlace(all, tag);
  }
  absl::Status AllToAll(std::span<std::byte> dst, const SendBlocks& src, CallTag tag) override {
    return inner_.AllToAll(dst, src, tag);
  }
  absl::Status Broadcast(std::span<std::byte> dst, int root, CallTag tag) override {
    return inner_.Broadcast(dst, root, tag);
  }
  absl::Status Barrier(CallTag tag) override { return inner_.Barrier(tag); }
  // Calls on the group bypass this class; where they should not, override Split and call SplitInto.
  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, CallTag tag) override {
    return inner_.Split(color, tag);
  }
  // ReadBlocks is not forwarded: the base class turns it into AllToAll, where a class that changes or counts what
  // arrives finds all of it.
  absl::StatusOr<std::shared_ptr<std::byte>> MakeArena(int64_t bytes, int threads, CallTag tag) override {
    return inner_.MakeArena(bytes, threads, tag);
  }
  void KeepAlive(std::shared_ptr<const void> memory) override { inner_.KeepAlive(std::move(memory)); }

 protected:
  Communicator& inner() { return inner_; }
  // Splits `inner` and puts make(group) in front of the resulting group: a std::unique_ptr to a ForwardingCommunicator.
  template <typename Make>
  absl::StatusOr<std::unique_ptr<Communicator>> SplitInto(int color, CallTag tag, Make&& make) {
    ASSIGN_OR_RETURN(std::unique_ptr<Communicator> group, inner_.Split(color, tag));
    auto before = make(*group);
    static_cast<ForwardingCommunicator&>(*before).owned_ = std::move(group);
    return std::unique_ptr<Communicator>(std::move(before));
  }

 private:
  std::unique_ptr<Communicator> owned_;
  Communicator& inner_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_FORWARDING_COMMUNICATOR_H_
