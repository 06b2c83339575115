// A Communicator that hands every call on: what test communicators that change or count some calls derive from.
#ifndef ANGEL_PTM_TESTS_SUPPORT_FORWARDING_COMMUNICATOR_H_
#define ANGEL_PTM_TESTS_SUPPORT_FORWARDING_COMMUNICATOR_H_

#include "comm/communicator.h"

namespace angel_ptm {

class ForwardingCommunicator : public Communicator {
 public:
  // Does not own `inner`.
  explicit ForwardingCommunicator(Communicator& inner) : inner_(inner) {}

  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  absl::Status AllGather(std::span<std::byte> dst, std::span<const std::byte> src, CallTag tag) override {
    return inner_.AllGather(dst, src, tag);
  }
  absl::Status AllToAll(std::span<std::byte> dst, const SendBlocks& src, CallTag tag) override {
    return inner_.AllToAll(dst, src, tag);
  }
  absl::Status Broadcast(std::span<std::byte> dst, int root, CallTag tag) override {
    return inner_.Broadcast(dst, root, tag);
  }
  absl::Status Barrier(CallTag tag) override { return inner_.Barrier(tag); }
  void KeepAlive(std::shared_ptr<const void> memory) override { inner_.KeepAlive(std::move(memory)); }

 private:
  Communicator& inner_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_SUPPORT_FORWARDING_COMMUNICATOR_H_
