// The tiers a page can rest on, nearest to the device first, and who computes where. A new tier is a row of kTiers and
// the links to its neighbours (plan/plan.h, kLinks).
#ifndef ANGEL_PTM_BASE_TIER_KIND_H_
#define ANGEL_PTM_BASE_TIER_KIND_H_

#include <array>
#include <cstdint>

namespace angel_ptm {

enum class TierKind : uint8_t { kDevice, kHost, kFile };
inline constexpr int kTierCount = 3;
inline constexpr std::array<TierKind, kTierCount> kAllTiers = {TierKind::kDevice, TierKind::kHost, TierKind::kFile};

// Who can run kernels on a tier's memory in place.
enum class Processor : uint8_t { kNobody, kDevice, kHost };

struct TierSpec {
  const char* name;
  Processor processor;
  // What a plan puts there starts at, and has to itself, multiples of so many bytes: what kernels like on the device,
  // whole blocks of a file where direct I/O may bring them.
  int64_t alignment;
  // What the tier takes of the host's memory besides: a buffer for what no plan moves, and a checksum of so many bytes
  // for each `alignment` bytes of it.
  int64_t buffer_bytes = 0, checksum_bytes = 0;
};
inline constexpr std::array<TierSpec, kTierCount> kTiers = {{
    {"device", Processor::kDevice, 256},
    {"host", Processor::kHost, 4096},
    {"file", Processor::kNobody, 4096, int64_t{1} << 20, 8},
}};

constexpr const TierSpec& SpecOf(TierKind tier) { return kTiers[static_cast<int>(tier)]; }
constexpr const char* Name(TierKind tier) { return SpecOf(tier).name; }

// `bytes`, or an address, rounded up to the tier's alignment.
constexpr int64_t AlignedUp(TierKind tier, int64_t bytes) {
  const int64_t alignment = SpecOf(tier).alignment;
  return (bytes + alignment - 1) / alignment * alignment;
}

// The next tier on the way between two different ones.
constexpr TierKind Toward(TierKind from, TierKind to) {
  return static_cast<TierKind>(static_cast<int>(from) + (to > from ? 1 : -1));
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_BASE_TIER_KIND_H_
