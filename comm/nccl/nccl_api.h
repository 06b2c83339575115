// The NCCL calls that a run makes: the seam at which tests put a library of their own.
//
// Calls, their order and their codes are NCCL's for non-blocking communicators: a call on one may return
// kNcclInProgress, and until AsyncError says something else, CommAbort is the only other call that may follow.
// Collectives are put on a stream, a cudaStream_t, and run there; their memory is the device's.
//
// Thread safety: one thread at a time per communicator; a group belongs to the thread that opens it.
#ifndef ANGEL_PTM_COMM_NCCL_NCCL_API_H_
#define ANGEL_PTM_COMM_NCCL_NCCL_API_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "angel_ptm/base/dtype.h"

namespace angel_ptm {

// The values of ncclResult_t that callers tell apart.
using NcclCode = int;
inline constexpr NcclCode kNcclSuccess = 0, kNcclInvalidUsage = 5, kNcclRemoteError = 6, kNcclInProgress = 7;

// The id by which ranks find each other (ncclUniqueId).
struct NcclId {
  std::array<char, 128> bytes = {};
};

class NcclApi {
 public:
  virtual ~NcclApi() = default;

  // E.g. "2.28.9".
  virtual std::string Version() = 0;
  // NCCL's text for a code, and its last error message, which may be empty.
  virtual std::string ErrorText(NcclCode code) = 0;
  virtual std::string LastError() = 0;

  virtual NcclCode GetUniqueId(NcclId* id) = 0;
  // On the thread's current device.
  virtual NcclCode CommInit(void** comm, int ranks, const NcclId& id, int rank) = 0;
  virtual NcclCode AsyncError(void* comm, NcclCode* state) = 0;
  // Once all ranks have called it, all calls are done; CommDestroy follows.
  virtual NcclCode CommFinalize(void* comm) = 0;
  virtual NcclCode CommDestroy(void* comm) = 0;
  // Ends the calls in flight, also on streams, and frees the communicator. Any thread.
  virtual NcclCode CommAbort(void* comm) = 0;

  virtual NcclCode GroupStart() = 0;
  virtual NcclCode GroupEnd() = 0;
  // Gathers `bytes` bytes from each rank; src may be this rank's own place in dst.
  virtual NcclCode AllGather(const void* src, void* dst, int64_t bytes, void* comm, void* stream) = 0;
  virtual NcclCode Send(const void* src, int64_t bytes, int peer, void* comm, void* stream) = 0;
  virtual NcclCode Receive(void* dst, int64_t bytes, int peer, void* comm, void* stream) = 0;
  // dst of rank `root` = the sum over ranks of src, `count` elements of `type`, fp32 or bf16, in an order that NCCL
  // chooses.
  virtual NcclCode Reduce(const void* src, void* dst, int64_t count, DType type, int root, void* comm,
                          void* stream) = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_NCCL_NCCL_API_H_
