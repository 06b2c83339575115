// The help texts of angel-ptm.
#ifndef ANGEL_PTM_LAUNCH_HELP_H_
#define ANGEL_PTM_LAUNCH_HELP_H_

#include <string>
#include <vector>

namespace angel_ptm {

// Every command with its usage and a sentence, and some examples.
std::string GeneralHelp();

// Usage, options and an example of a command; empty if there is no such command.
std::string CommandHelp(const std::string& command);

// The names that CommandHelp knows, in the order of use.
std::vector<std::string> CommandNames();

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_HELP_H_
