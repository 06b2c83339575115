#include "tests/cuda_emulation/sabotage.h"

namespace angel_ptm::emulated {
namespace {

Sabotage& TheSabotage() {
  static Sabotage sabotage = Sabotage::kNone;
  return sabotage;
}

}  // namespace

bool Planted(Sabotage sabotage) { return TheSabotage() == sabotage; }

std::vector<Finding> EmulateSabotaged(Sabotage sabotage, const Schedule& schedule,
                                      const std::function<void()>& launches) {
  TheSabotage() = sabotage;
  std::vector<Finding> findings = Emulate(schedule, launches);
  TheSabotage() = Sabotage::kNone;
  return findings;
}

}  // namespace angel_ptm::emulated
