// The value of a StatusOr, or a CHECK failure, for test scaffolding that cannot continue without it.
#ifndef ANGEL_PTM_TESTS_SUPPORT_OR_DIE_H_
#define ANGEL_PTM_TESTS_SUPPORT_OR_DIE_H_

#include <string>
#include <utility>

#include "angel_ptm/base/check.h"
#include "angel_ptm/base/status.h"

namespace angel_ptm {

template <typename T>
T OrDie(absl::StatusOr<T> result) {
  APTM_CHECK(result.ok(), std::string(result.status().message()));
  return std::move(result).value();
}

inline void OrDie(const absl::Status& status) { APTM_CHECK(status.ok(), std::string(status.message())); }

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_SUPPORT_OR_DIE_H_
