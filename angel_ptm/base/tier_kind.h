// The kinds of memory a page can rest on.
#ifndef ANGEL_PTM_BASE_TIER_KIND_H_
#define ANGEL_PTM_BASE_TIER_KIND_H_

#include <cstdint>

namespace angel_ptm {

enum class TierKind : uint8_t { kDevice, kHost };
inline constexpr int kTierCount = 2;

constexpr const char* Name(TierKind tier) { return tier == TierKind::kDevice ? "device" : "host"; }

}  // namespace angel_ptm

#endif  // ANGEL_PTM_BASE_TIER_KIND_H_
