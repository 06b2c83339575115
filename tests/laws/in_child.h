// Runs a function in a child process: a planted fault may make it do anything.
#ifndef ANGEL_PTM_TESTS_LAWS_IN_CHILD_H_
#define ANGEL_PTM_TESTS_LAWS_IN_CHILD_H_

#include <functional>
#include <string>

namespace angel_ptm {

// Returns the text that `speak` returned, or "signal 11" if that signal ended the process. A process that takes longer
// than `seconds_max` (0: no limit) ends with "signal 14".
std::string InChild(const std::function<std::string()>& speak, unsigned seconds_max = 0);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_LAWS_IN_CHILD_H_
