// An NCCL that is none: the calls of comm/nccl/nccl_api.h between FakeDevices, one for each rank of a process, as
// adversarial as their contract allows.
//
// * A call that is put on a stream is done there, as late as the device does anything, and nothing of it before the
//   communicator was asked for its state often enough. What it receives is NaNs until it is there; what it sends is
//   read by the peer, when that gets to it.
// * A peer that does not make the matching call is waited for, by the device too, until the communicator is aborted.
// * Abort frees memory of the device, as NCCL does: it waits for all that is under way there, calls of communicators
//   that were not aborted too.
// * Calls that do not match, in kind or bytes, are an error that AsyncError tells the receiver of.
// * A call that comes while another is in progress is an error; calls of a group may say that they are in progress.
// Faults are planted by overriding calls (tests/laws/nccl_faults_test.cc). It must outlive what is put on streams.
#ifndef ANGEL_PTM_TESTS_SUPPORT_FAKE_NCCL_H_
#define ANGEL_PTM_TESTS_SUPPORT_FAKE_NCCL_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "comm/nccl/nccl_api.h"
#include "kernels/ordered_sum.h"

namespace angel_ptm {

class FakeNccl : public NcclApi {
 public:
  FakeNccl();
  ~FakeNccl() override;

  std::string Version() override { return "2.99.0"; }
  std::string ErrorText(NcclCode code) override;
  std::string LastError() override;

  NcclCode GetUniqueId(NcclId* id) override;
  NcclCode CommInit(void** comm, int ranks, const NcclId& id, int rank) override;
  NcclCode AsyncError(void* comm, NcclCode* state) override;
  NcclCode CommFinalize(void* comm) override;
  NcclCode CommDestroy(void* comm) override;
  NcclCode CommAbort(void* comm) override;

  NcclCode GroupStart() override;
  NcclCode GroupEnd() override;
  NcclCode AllGather(const void* src, void* dst, int64_t bytes, void* comm, void* stream) override;
  NcclCode Send(const void* src, int64_t bytes, int peer, void* comm, void* stream) override;
  NcclCode Receive(void* dst, int64_t bytes, int peer, void* comm, void* stream) override;
  // Of fp32 alone; from the last rank to the first, so with other bits than those of a sum in rank order.
  NcclCode Reduce(const void* src, void* dst, int64_t count, DType type, int root, void* comm, void* stream) override;

  static int RankOf(void* comm);
  // Groups that were put on streams, by all ranks.
  int64_t groups_put() const;
  // Communicators that were made and neither destroyed nor aborted.
  int open() const;
  int aborted() const;
  // What a rank's CommInit answers instead: code and NCCL's last words.
  void RefuseInit(NcclCode code, const std::string& words);

 protected:
  struct World;
  struct Comm;
  struct Posted;
  struct Part;   // one send or one receive
  struct Group;  // what is put on a stream at a time

  // Puts a group on a stream; planted faults choose another.
  virtual void Put(std::shared_ptr<Group> group, void* stream);

 private:
  NcclCode Add(Part part, void* comm, void* stream);

  mutable std::mutex mutex_;  // guards all, and memory of peers while it is read; taken under devices' locks
  std::map<std::string, std::shared_ptr<World>> worlds_;  // by id
  std::vector<std::shared_ptr<Comm>> comms_;
  std::map<std::thread::id, std::shared_ptr<Group>> groups_;  // that threads have open
  int64_t ids_ = 0, groups_put_ = 0;
  NcclCode refuses_ = kNcclSuccess;
  std::string last_error_;
};

// The LaunchDeviceSum of FakeDevices, by the host's sum.
void LaunchFakeSum(const OrderedSumArgs& args, void* stream);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_SUPPORT_FAKE_NCCL_H_
