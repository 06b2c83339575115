// The one place that says what a build with sanitizers proves less of. They find faults of a code path, so each path
// runs; what only numbers distinguish (sizes, budgets, worlds, bits) every case of the uninstrumented build compares.
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

// All values, but with sanitizers only the first `sanitized` of them: name those first that take paths of their own.
template <typename T>
std::vector<T> FewerIfSanitized(std::size_t sanitized, std::initializer_list<T> values) {
  std::vector<T> taken(values);
  if (kSanitized && sanitized < taken.size()) taken.resize(sanitized);
  return taken;
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_SUPPORT_SANITIZED_H_
