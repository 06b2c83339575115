#include "tests/tree/reach.h"

#include <set>
#include <string>
#include <vector>

#include "tests/tree/tree_rules.h"

namespace angel_ptm::tree {

Reach::Reach(const std::vector<SourceFile>& files) {
  for (const SourceFile& file : files) {
    if (IsCpp(file.path)) files_[file.path] = &file;
  }
}

const std::set<std::string>& Reach::Of(const std::string& path) {
  const auto [entry, is_new] = reached_.try_emplace(path);
  std::set<std::string>& reached = entry->second;  // stays where it is while others are inserted
  if (!is_new) return reached;                     // our headers do not include each other in circles
  for (const std::string& header : IncludedBy(*files_.at(path))) {
    reached.insert(header);
    if (header.ends_with(".pb.h")) reached.insert({"cstdint", "string", "utility"});  // as protoc's code does
    if (!files_.contains(header)) continue;
    const std::set<std::string>& further = Of(header);
    reached.insert(further.begin(), further.end());
  }
  return reached;
}

}  // namespace angel_ptm::tree
