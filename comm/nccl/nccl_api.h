// What a run asks of NCCL, call for call: the seam at which tests put a library of their own.
//
// Calls, their order and their codes are NCCL's, of communicators that are made not to block: a call on one may return
// kNcclInProgress, and until AsyncError says something else no other call but Abort may follow. Collectives are put on
// a stream, a cudaStream_t, and done there; memory is the device's.
//
// Thread safety: of one communicator one thread at a time; groups belong to the thread that opens them.
#ifndef ANGEL_PTM_COMM_NCCL_NCCL_API_H_
#define ANGEL_PTM_COMM_NCCL_NCCL_API_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "angel_ptm/base/dtype.h"

namespace angel_ptm {

// NCCL's numbers (ncclResult_t), those that are told apart.
using NcclCode = int;
inline constexpr NcclCode kNcclSuccess = 0, kNcclInvalidUsage = 5, kNcclRemoteError = 6, kNcclInProgress = 7;

// By which ranks find each other.
struct NcclId {
  std::array<char, 128> bytes = {};
};

class NcclApi {
 public:
  virtual ~NcclApi() = default;

  // As "2.28.9".
  virtual std::string Version() = 0;
  // NCCL's text for a code, and what it last said of an error, which may be nothing.
  virtual std::string ErrorText(NcclCode code) = 0;
  virtual std::string LastError() = 0;

  virtual NcclCode GetUniqueId(NcclId* id) = 0;
  // On the thread's current device.
  virtual NcclCode CommInit(void** comm, int ranks, const NcclId& id, int rank) = 0;
  virtual NcclCode AsyncError(void* comm, NcclCode* state) = 0;
  // All calls are done when all ranks have called it; then Destroy.
  virtual NcclCode CommFinalize(void* comm) = 0;
  virtual NcclCode CommDestroy(void* comm) = 0;
  // Ends what is under way, on streams too, and frees the communicator. Any thread.
  virtual NcclCode CommAbort(void* comm) = 0;

  virtual NcclCode GroupStart() = 0;
  virtual NcclCode GroupEnd() = 0;
  // `bytes` of each rank; src may be its own place in dst.
  virtual NcclCode AllGather(const void* src, void* dst, int64_t bytes, void* comm, void* stream) = 0;
  virtual NcclCode Send(const void* src, int64_t bytes, int peer, void* comm, void* stream) = 0;
  virtual NcclCode Receive(void* dst, int64_t bytes, int peer, void* comm, void* stream) = 0;
  // dst of rank `root` = the sum over ranks of src, `count` elements of `type`, fp32 or bf16, in an order of NCCL's.
  virtual NcclCode Reduce(const void* src, void* dst, int64_t count, DType type, int root, void* comm,
                          void* stream) = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_NCCL_NCCL_API_H_
