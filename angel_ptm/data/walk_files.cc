#include "angel_ptm/data/walk_files.h"

#include <cerrno>
#include <deque>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "angel_ptm/base/file.h"

namespace angel_ptm {

absl::Status WalkFiles(const std::string& folder,
                       absl::FunctionRef<absl::StatusOr<bool>(const std::string& path, const struct stat& info)> enters,
                       absl::FunctionRef<absl::Status(const std::string& path, const struct stat& info)> file) {
  std::deque<std::string> paths = {folder}, links;
  while (!paths.empty() || !links.empty()) {
    std::deque<std::string>& queue = paths.empty() ? links : paths;
    const std::string next = std::move(queue.front());
    queue.pop_front();
    struct stat info;
    if (stat(next.c_str(), &info) != 0) return FileError("read the input", next, errno);
    if (S_ISREG(info.st_mode)) RETURN_IF_ERROR(file(next, info));
    if (!S_ISDIR(info.st_mode)) continue;
    ASSIGN_OR_RETURN(const bool enter, enters(next, info));
    if (!enter) continue;
    ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(next));
    for (const std::string& name : names) {
      if (name.starts_with(".")) continue;
      const std::filesystem::path path = std::filesystem::path(next) / name;
      std::error_code error;
      (std::filesystem::is_symlink(path, error) ? links : paths).push_back(path.string());
    }
  }
  return absl::OkStatus();
}

}  // namespace angel_ptm
