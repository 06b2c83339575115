// setmaxnreg: warpgroups give registers back to their block and take more.
#include <vector>

#include "tests/cuda_emulation/machine.h"

namespace angel_ptm::emulated {
namespace {

constexpr int kRegistersMin = 24, kRegistersMax = 256, kRegistersStep = 8;

class Registers final : public Unit {
 public:
  void StartCluster() override {
    Machine& machine = Machine::Get();
    of_thread.assign(machine.threads().size(), machine.shape().registers);
    free.assign(static_cast<std::size_t>(machine.blocks()), 0);
    waiting.clear();
  }
  std::vector<int> of_thread, free, waiting;  // by thread, by block, threads
};

Registers& TheRegisters() {
  static Registers registers;
  return registers;
}

}  // namespace

Unit& RegisterUnit() { return TheRegisters(); }

void SetMaxRegisters(int count, bool raises) {
  const void* const at = __builtin_return_address(0);
  Machine& machine = Machine::Get();
  const SimThread& self = machine.self();
  Registers& unit = TheRegisters();
  int& mine = unit.of_thread[static_cast<std::size_t>(self.id)];
  int& free = unit.free[static_cast<std::size_t>(self.block)];
  if (mine == 0) machine.Stop(Fault::kRegisters, at, "setmaxnreg in a launch that does not say its registers");
  if (count < kRegistersMin || count > kRegistersMax || count % kRegistersStep != 0) {
    machine.Stop(Fault::kRegisters, at, absl::StrCat("setmaxnreg ", count, ": 24 to 256 by 8"));
  }
  if (raises ? count < mine : count > mine) {
    machine.Report(Fault::kRegisters, at,
                   absl::StrCat("setmaxnreg from ", mine, " to ", count, " by the wrong instruction"));
  }
  while (count - mine > free) {
    unit.waiting.push_back(self.id);
    machine.Wait([count, &free] { return absl::StrCat("setmaxnreg ", count, ", with ", free, " registers free"); });
  }
  free -= count - mine;
  mine = count;
  for (const int thread : unit.waiting) machine.Wake(thread);
  unit.waiting.clear();
}

}  // namespace angel_ptm::emulated
