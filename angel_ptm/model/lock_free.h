// The states of a lock-free update (Nie et al. 2023, Angel-PTM, section 4.3): micro-steps of later steps go on while a
// unit is updated. Its gradients wait in a mailbox, its new parameters are written beside those that are being read.
#ifndef ANGEL_PTM_MODEL_LOCK_FREE_H_
#define ANGEL_PTM_MODEL_LOCK_FREE_H_

#include <array>
#include <vector>

#include "angel_ptm/model/state.h"

namespace angel_ptm {

// The rows it adds to the table of a run that computes in this type: two mailboxes of scaled gradients, one to be
// filled while the other is emptied, and the second buffer of parameters. All rest on the host, none is saved.
inline std::vector<StateSpec> LockFreeStates(DType compute_type) {
  return {{.name = "mailbox 0", .saved = false, .on_host = true},
          {.name = "mailbox 1", .saved = false, .on_host = true},
          {.name = "second parameters",
           .dtype = compute_type,
           .sharded_from_stage = 3,
           .saved = false,
           .start = StateSpec::Start::kParameters,
           .on_host = true}};
}

// Where they are in a table; nothing where the update is synchronous.
struct LockFreeRows {
  std::array<StateId, 2> mailbox = {-1, -1};
  StateId second_parameters = -1;

  explicit operator bool() const { return second_parameters >= 0; }
};
inline LockFreeRows FindLockFreeRows(const std::vector<StateSpec>& states) {
  return {{FindState(states, "mailbox 0"), FindState(states, "mailbox 1")}, FindState(states, "second parameters")};
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_LOCK_FREE_H_
