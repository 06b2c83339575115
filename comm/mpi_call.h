// MPI return codes as Status. Only this header and those of its users that have mpi in their name include <mpi.h>.
#ifndef ANGEL_PTM_COMM_MPI_CALL_H_
#define ANGEL_PTM_COMM_MPI_CALL_H_

#include <mpi.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/status.h"

namespace angel_ptm {

// All messages travel in MPI_COMM_WORLD, because duplicating or splitting a communicator is a collective of MPI, which
// waits for a lost rank forever. Messages of one tag between two ranks keep their order, so one tag per purpose is
// enough: one for meetings and one for every communicator. Communicators of the world take consecutive tags, in step on
// all ranks; a group takes a tag that is free on all ranks of its parent. MPI guarantees tags up to 32767.
constexpr int kMeetingTag = 0, kFirstCommunicatorTag = 1, kFirstGroupTag = 16384, kLastTag = 32767;

inline absl::Status MpiStatus(int code, const char* call) {
  if (code == MPI_SUCCESS) return absl::OkStatus();
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  return absl::InternalError(absl::StrCat(call, " failed: ", text));
}

}  // namespace angel_ptm

#define ANGEL_PTM_MPI_CALL(function, ...) RETURN_IF_ERROR(::angel_ptm::MpiStatus(function(__VA_ARGS__), #function))

#endif  // ANGEL_PTM_COMM_MPI_CALL_H_
