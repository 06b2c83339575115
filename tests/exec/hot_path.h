// Law 5's measurement, for ranks as threads and as processes.
#ifndef ANGEL_PTM_TESTS_EXEC_HOT_PATH_H_
#define ANGEL_PTM_TESTS_EXEC_HOT_PATH_H_

#include <cstdint>
#include <functional>
#include <string>

#include "comm/communicator.h"

namespace angel_ptm {

struct HotPathRun {
  std::string data;  // a directory from PrepareTinyText
  int zero_stage = 0;
  bool skewed = false;  // all tokens to the same experts
  int threads = 1;      // of the compute lane
  int expert_degree = 1;
  bool lock_free = false;  // the update; not with `skewed`
  bool file = false;       // too little host memory for the state off the device; not with `skewed`
  // Called after every step from step 3 on; the sabotage test allocates here. May be empty.
  std::function<void()> after_step;
};

// Trains as this rank through everything that feeds and plays a step: loader, checked communicator, progress board,
// moving pages and, from step 3 on, an evaluation after each step; not the printed line. Returns the process's
// allocation calls between the ends of steps 2 and 6; -1 after a failure. Expects a finite loss, moved pages and the
// requested routing. Ranks must start together.
int64_t AllocationsOfFourSteps(const HotPathRun& run, Communicator& communicator);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_EXEC_HOT_PATH_H_
