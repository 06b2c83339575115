// The only place that reduces what tests cover in a build with sanitizers. Sanitizers find faults of a code path, so
// each path runs there; cases that differ only in numbers (sizes, budgets, worlds, bits) are all run by the
// uninstrumented build.
#ifndef ANGEL_PTM_TESTS_SUPPORT_SANITIZED_H_
#define ANGEL_PTM_TESTS_SUPPORT_SANITIZED_H_

#include <cstddef>
#include <initializer_list>
#include <vector>

namespace angel_ptm {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

// All values, but with sanitizers only the first `sanitized` of them: list first those that take code paths of their
// own.
template <typename T>
std::vector<T> FewerIfSanitized(std::size_t sanitized, std::initializer_list<T> values) {
  std::vector<T> taken(values);
  if (kSanitized && sanitized < taken.size()) taken.resize(sanitized);
  return taken;
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_SUPPORT_SANITIZED_H_
