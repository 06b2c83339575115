// The axes that, besides the world's transport, change no bit by law 1: all their combinations, and a small set that
// covers every pair of values.
#ifndef ANGEL_PTM_TESTS_LAWS_AXES_H_
#define ANGEL_PTM_TESTS_LAWS_AXES_H_

#include <cstdint>
#include <ostream>
#include <vector>

namespace angel_ptm {

struct Axes {
  // Changes what is computed: each (model, accumulation, type) has a reference of its own.
  bool moe = false;
  int accumulation = 1;
  bool bf16 = false;
  // Changes no bit.
  int zero_stage = 0;
  int64_t page_bytes = 8192;
  int budget_percent = 100;  // of the device bytes the run takes without a budget and without recomputation
  // Percentage of the range from the least host budget that works to what the run takes if no state rests in a file. At
  // 0, all state that is not on the device rests in a file.
  int host_percent = 100;
  bool recompute = false;
  int prefetch_steps = 4;
  bool resumed = false;  // saved after the first step by a run at another stage, and loaded again
  bool joined = false;   // every update runs beside the next step's first micro-step

  friend bool operator==(const Axes&, const Axes&) = default;
};
std::ostream& operator<<(std::ostream& os, const Axes& axes);

// Every combination of the values below.
//   model dense, MoE; accumulation 1, 4; fp32, bf16; ZeRO 0-3; pages 8 KiB, 64 KiB, 4 MiB; budgets of the device
//   100, 60, 35 % and with a file tier 60 % and half of the host, 35 % and the least of the host; recomputation none,
//   all blocks; prefetch 0, 3, 6 compute steps; fresh, resumed; updates apart, joined
// Except for the stage, axes that a plan depends on change slowest, so that cases that share plans (ParityMatrix) are
// consecutive.
std::vector<Axes> FullMatrix();

// About twenty of them, chosen so that any two values of two different axes meet in a case.
std::vector<Axes> AllPairs();

// How many pairs of values of two axes meet in some case of FullMatrix() but in none of `cases`.
int64_t PairsLeftOut(const std::vector<Axes>& cases);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_LAWS_AXES_H_
