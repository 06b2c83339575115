// What of this machine helps or hinders a run, a line each.
#ifndef ANGEL_PTM_LAUNCH_MACHINE_CHECKS_H_
#define ANGEL_PTM_LAUNCH_MACHINE_CHECKS_H_

#include <string>
#include <vector>

namespace angel_ptm {

struct MachineCheck {
  enum class Verdict { kOk, kNote, kBad };  // bad: such a run does not start
  Verdict verdict = Verdict::kOk;
  std::string text;
};

// A run of so many ranks on this machine, each of so many threads, with so many cores for all of them.
struct MachineUse {
  int ranks = 1, threads = 1, cores = 1;
};
// Memory, cores, threads, locked memory, huge pages, load, MPI; with a directory also direct I/O there.
std::vector<MachineCheck> CheckMachine(const MachineUse& use, const std::string& directory, bool allow_buffered);

// "ok    memory ...", "note  ...", "bad   ...".
std::string ToText(const MachineCheck& check);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_MACHINE_CHECKS_H_
