#include "absl/strings/str_cat.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/exec/executor.h"

namespace angel_ptm {

Tier* TierOf(const Machine& machine, TierKind kind) {
  switch (kind) {
    case TierKind::kDevice:
      return machine.device;
    case TierKind::kHost:
      return machine.host;
    case TierKind::kFile:
      return machine.file;
  }
  APTM_CHECK(false);
}

absl::Status CheckRegions(const Segment& segment, const Machine& machine) {
  for (const Region& region : segment.regions) {
    if (region.range.offset < 0) continue;
    const Tier* const tier = TierOf(machine, region.range.tier);
    const int64_t bytes = tier == nullptr ? 0 : tier->bytes();
    if (region.range.offset + region.range.bytes > bytes) {
      return absl::InternalError(absl::StrCat("the plan puts ", region.label, " at ", region.range.offset, " of the ",
                                              Name(region.range.tier), " tier, which has ", FormatBytes(bytes)));
    }
  }
  return absl::OkStatus();
}

}  // namespace angel_ptm
