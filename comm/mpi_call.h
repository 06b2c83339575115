// MPI return codes as Status. The only headers that include <mpi.h> are this one and its users with mpi in their name.
#ifndef ANGEL_PTM_COMM_MPI_CALL_H_
#define ANGEL_PTM_COMM_MPI_CALL_H_

#include <mpi.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/status.h"

namespace angel_ptm {

// All messages travel in MPI_COMM_WORLD: duplicating or splitting a communicator is a collective of MPI, which waits
// for a lost rank for ever. Messages of one tag between two ranks keep their order, so one tag per purpose is enough:
// meetings, and then one for every communicator: those of the world count up together, groups take what is free in all
// of their ranks. MPI guarantees tags up to 32767.
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
