// A simulated NCCL: the calls of comm/nccl/nccl_api.h between FakeDevices, one for each rank of a process, as
// adversarial as their contract allows.
//
// * A call that is put on a stream is executed there as late as the device does anything, and no part of it before the
//   communicator's state has been queried often enough. Receive buffers hold NaNs until the data arrives; the peer
//   reads send buffers when it gets to the operation.
// * If a peer does not make the matching call, everybody waits for it, including the device, until the communicator is
//   aborted.
// * Abort frees device memory, as NCCL does: it waits for everything that is under way on the device, including calls
//   of communicators that were not aborted.
// * Calls that do not match, in kind or bytes, are an error that AsyncError reports to the receiver.
// * A call made while another is in progress is an error; calls of a group may report that they are in progress. Tests
//   plant faults by overriding calls (tests/laws/nccl_faults_test.cc). The object must outlive the work on streams.
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
  // fp32 only. Adds from the last rank to the first, so its bits differ from those of a sum in rank order.
  NcclCode Reduce(const void* src, void* dst, int64_t count, DType type, int root, void* comm, void* stream) override;

  static int RankOf(void* comm);
  // The number of groups put on streams, by all ranks.
  int64_t groups_put() const;
  // The number of communicators that were made and neither destroyed nor aborted.
  int open() const;
  int aborted() const;
  // Makes every CommInit return `code`, with `words` as NCCL's last error.
  void RefuseInit(NcclCode code, const std::string& words);

 protected:
  struct World;
  struct Comm;
  struct Posted;
  struct Part;   // one send or one receive
  struct Group;  // what one call or group puts on a stream

  // Puts a group on a stream; planted faults choose another.
  virtual void Put(std::shared_ptr<Group> group, void* stream);

 private:
  NcclCode Add(Part part, void* comm, void* stream);

  mutable std::mutex mutex_;  // guards all members, and peers' memory while it is read; taken under devices' locks
  std::map<std::string, std::shared_ptr<World>> worlds_;  // by id
  std::vector<std::shared_ptr<Comm>> comms_;
  std::map<std::thread::id, std::shared_ptr<Group>> groups_;  // the open group of each thread
  int64_t ids_ = 0, groups_put_ = 0;
  NcclCode refuses_ = kNcclSuccess;
  std::string last_error_;
};

// The LaunchDeviceSum of FakeDevices, computed by the host's sum.
void LaunchFakeSum(const OrderedSumArgs& args, void* stream);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_SUPPORT_FAKE_NCCL_H_
