#include "comm/collective.h"

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/text.h"

namespace angel_ptm {

const char* Name(CollectiveVerb verb) {
  switch (verb) {
    case CollectiveVerb::kAllGather:
      return "all-gather";
    case CollectiveVerb::kReduceScatter:
      return "reduce-scatter";
    case CollectiveVerb::kAllToAll:
      return "all-to-all";
    case CollectiveVerb::kBroadcast:
      return "broadcast";
    case CollectiveVerb::kBarrier:
      return "barrier";
    case CollectiveVerb::kSplit:
      return "split";
    case CollectiveVerb::kArena:
      return "arena";
  }
  return "unknown collective";
}

std::string Describe(const CollectiveEntry& entry) {
  const std::string text = absl::StrCat(Name(entry.verb), " ", entry.what);
  return entry.verb == CollectiveVerb::kBarrier ? text : absl::StrCat(text, " ", FormatBytes(entry.bytes));
}

std::string Describe(CollectiveVerb verb, const CallTag& tag) {
  std::string text = absl::StrCat(Name(verb), " \"", std::string(tag.what), "\"");
  if (tag.step >= 0) absl::StrAppend(&text, " (step ", tag.step, ")");
  return text;
}

}  // namespace angel_ptm
