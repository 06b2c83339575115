// angel-ptm init: a configuration to begin with.
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/config/starter.h"
#include "launch/commands.h"

namespace angel_ptm {

absl::Status InitCommand(const std::vector<std::string>& words) {
  ASSIGN_OR_RETURN(const Arguments arguments,
                   Arguments::Parse(words, {.flags = {"input"}, .positional_max = 1, .positional = "NAME"}));
  if (arguments.positional().empty()) return absl::InvalidArgumentError("init: which NAME?");
  const std::string& name = arguments.positional()[0];
  if (name.empty() || name.find('/') != std::string::npos || name[0] == '.') {
    return absl::InvalidArgumentError(
        absl::StrCat("init: wanted a name without '/' that does not begin with '.', got '", name, "'"));
  }
  const std::string path = name + ".textproto", input = arguments.Get("input", "text");
  ASSIGN_OR_RETURN(const bool exists, PathExists(path));
  if (exists) return absl::AlreadyExistsError(absl::StrCat(path, " exists already: remove it or take another name"));
  RETURN_IF_ERROR(WriteFile(path, StarterConfig(name, input)));
  std::printf("wrote %s, which trains on the text in %s. Next:\n", path.c_str(), input.c_str());
  for (const char* command : {"prepare ", "plan ", "train "}) std::printf("  angel-ptm %s%s\n", command, path.c_str());
  std::printf("  angel-ptm generate --checkpoint runs/%s/train --prompt \"...\"\n", name.c_str());
  return absl::OkStatus();
}

}  // namespace angel_ptm
