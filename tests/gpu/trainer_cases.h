// What the cases of trainer_cases_test.cc run on.
#ifndef ANGEL_PTM_TESTS_GPU_TRAINER_CASES_H_
#define ANGEL_PTM_TESTS_GPU_TRAINER_CASES_H_

#include <functional>

#include "angel_ptm/train/device_choice.h"

namespace angel_ptm {

struct TrainerCases {
  // The device for a run of one rank. What it points to lives as long as the program.
  std::function<DeviceOffer(int rank)> offer;
  // Whether steps are cheap enough for more of them.
  bool is_thorough = false;
};
TrainerCases MakeTrainerCases();

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_GPU_TRAINER_CASES_H_
