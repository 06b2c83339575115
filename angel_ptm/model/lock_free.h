// The states of a lock-free update (Nie et al. 2023, Angel-PTM, section 4.3): micro-steps of later steps go on while a
// unit is updated. Its gradients wait in a mailbox, its new parameters are written beside those that are being read.
#ifndef ANGEL_PTM_MODEL_LOCK_FREE_H_
#define ANGEL_PTM_MODEL_LOCK_FREE_H_

#include <vector>

#include "angel_ptm/model/state.h"

namespace angel_ptm {

// The rows it adds to the table of a run that computes in this type, all on the host, none saved: scaled gradients that
// wait; those that arrive while the others are being used; parameters until they are published. The last two are needed
// while a unit is updated, so several units may have one home for them.
inline std::vector<StateSpec> LockFreeStates(DType compute_type) {
  return {{.name = "mailbox", .saved = false, .on_host = true},
          {.name = "second mailbox", .saved = false, .on_host = true},
          {.name = "new parameters", .dtype = compute_type, .sharded_from_stage = 3, .saved = false, .on_host = true}};
}

// Where they are in a table; nothing where the update is synchronous.
struct LockFreeRows {
  StateId mailbox = -1, second_mailbox = -1, new_parameters = -1;

  explicit operator bool() const { return mailbox >= 0; }
  // Whether units share homes of this state.
  bool shared(StateId s) const { return *this && (s == second_mailbox || s == new_parameters); }
};
inline LockFreeRows FindLockFreeRows(const std::vector<StateSpec>& states) {
  return {FindState(states, "mailbox"), FindState(states, "second mailbox"), FindState(states, "new parameters")};
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_LOCK_FREE_H_
