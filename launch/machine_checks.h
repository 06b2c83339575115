// Checks what helps or hinders a run on this machine, with a line for each check.
#ifndef ANGEL_PTM_LAUNCH_MACHINE_CHECKS_H_
#define ANGEL_PTM_LAUNCH_MACHINE_CHECKS_H_

#include <string>
#include <vector>

namespace angel_ptm {

struct MachineCheck {
  enum class Verdict { kOk, kNote, kBad };  // bad: such a run cannot start
  Verdict verdict = Verdict::kOk;
  std::string text;
};

// A run on this machine with `ranks` ranks of `threads` threads each, and `cores` cores for all of them.
struct MachineUse {
  int ranks = 1, threads = 1, cores = 1;
};
// Checks memory, cores, threads, locked memory, huge pages, load and MPI; with a directory also direct I/O there.
std::vector<MachineCheck> CheckMachine(const MachineUse& use, const std::string& directory, bool allow_buffered);

// "ok    memory ...", "note  ...", "bad   ...".
std::string ToText(const MachineCheck& check);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_MACHINE_CHECKS_H_
