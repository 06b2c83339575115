// The states of a lock-free update (Nie et al. 2023, Angel-PTM, section 4.3), in which micro-steps of later steps
// proceed while a unit is updated. The unit's gradients wait in a mailbox, and its new parameters are written to a
// place other than that of the parameters being read.
#ifndef ANGEL_PTM_MODEL_LOCK_FREE_H_
#define ANGEL_PTM_MODEL_LOCK_FREE_H_

#include <vector>

#include "angel_ptm/model/state.h"

namespace angel_ptm {

// The rows that a lock-free update adds to the table of a run that computes in `compute_type`, all on the host and none
// saved: scaled gradients that wait; gradients that arrive while the waiting ones are being used; new parameters until
// they are published. The last two are needed only while a unit is updated, so several units may share one home for
// them.
inline std::vector<StateSpec> LockFreeStates(DType compute_type) {
  return {{.name = "mailbox", .saved = false, .on_host = true},
          {.name = "second mailbox", .saved = false, .on_host = true},
          {.name = "new parameters", .dtype = compute_type, .sharded_from_stage = 3, .saved = false, .on_host = true}};
}

// The indices of these rows in a table; all negative if the update is synchronous.
struct LockFreeRows {
  StateId mailbox = -1, second_mailbox = -1, new_parameters = -1;

  explicit operator bool() const { return mailbox >= 0; }
  // Whether units may share homes of this state.
  bool shared(StateId s) const { return *this && (s == second_mailbox || s == new_parameters); }
};
inline LockFreeRows FindLockFreeRows(const std::vector<StateSpec>& states) {
  return {FindState(states, "mailbox"), FindState(states, "second mailbox"), FindState(states, "new parameters")};
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_LOCK_FREE_H_
