// What a function says in a process of its own: faults that are planted may lead it anywhere.
#ifndef ANGEL_PTM_TESTS_LAWS_IN_CHILD_H_
#define ANGEL_PTM_TESTS_LAWS_IN_CHILD_H_

#include <functional>
#include <string>

namespace angel_ptm {

// Its text, or "signal 11" of what ended it: "signal 14" if it took longer than so many seconds, 0 for no limit.
std::string InChild(const std::function<std::string()>& speak, unsigned seconds_max = 0);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_LAWS_IN_CHILD_H_
