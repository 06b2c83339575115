// Status macros. absl::Status reports failures from outside the program (files, config, budgets, a lost peer).
#ifndef ANGEL_PTM_BASE_STATUS_H_
#define ANGEL_PTM_BASE_STATUS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define ANGEL_PTM_CONCAT_INNER_(a, b) a##b
#define ANGEL_PTM_CONCAT_(a, b) ANGEL_PTM_CONCAT_INNER_(a, b)

// Returns the error of `expr` from the enclosing function; does nothing if it is OK.
#define RETURN_IF_ERROR(expr)                                         \
  do {                                                                \
    if (absl::Status status_ = (expr); !status_.ok()) return status_; \
  } while (false)

// ASSIGN_OR_RETURN(auto x, F()): x is F()'s value, or the enclosing function returns F()'s error.
#define ASSIGN_OR_RETURN(lhs, expr) ASSIGN_OR_RETURN_IMPL_(ANGEL_PTM_CONCAT_(status_or_, __LINE__), lhs, expr)
#define ASSIGN_OR_RETURN_IMPL_(name, lhs, expr) \
  auto name = (expr);                           \
  if (!name.ok()) return name.status();         \
  lhs = std::move(name).value()

#endif  // ANGEL_PTM_BASE_STATUS_H_
