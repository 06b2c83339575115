// The tiers a page can rest on, nearest to the device first, and which processor computes on each. A new tier is a row
// of kTiers and the links to its neighbours (plan/plan.h, kLinks).
#ifndef ANGEL_PTM_BASE_TIER_KIND_H_
#define ANGEL_PTM_BASE_TIER_KIND_H_

#include <array>
#include <cstdint>

namespace angel_ptm {

enum class TierKind : uint8_t { kDevice, kHost, kFile };
inline constexpr int kTierCount = 3;
inline constexpr std::array<TierKind, kTierCount> kAllTiers = {TierKind::kDevice, TierKind::kHost, TierKind::kFile};

// The processor that can run kernels in place on a tier's memory.
enum class Processor : uint8_t { kNobody, kDevice, kHost };

struct TierSpec {
  const char* name;
  Processor processor;
  // Every allocation of a plan starts at a multiple of this many bytes and occupies a multiple exclusively. On the
  // device this suits the kernels; elsewhere allocations are whole file blocks, as direct I/O requires.
  int64_t alignment;
  // Host memory that the tier takes in addition: a buffer for transfers outside any plan, and a checksum of
  // checksum_bytes for every `alignment` bytes of the tier.
  int64_t buffer_bytes = 0, checksum_bytes = 0;
};
inline constexpr std::array<TierSpec, kTierCount> kTiers = {{
    {"device", Processor::kDevice, 256},
    {"host", Processor::kHost, 4096},
    {"file", Processor::kNobody, 4096, int64_t{1} << 20, 8},
}};

constexpr const TierSpec& SpecOf(TierKind tier) { return kTiers[static_cast<int>(tier)]; }
constexpr const char* Name(TierKind tier) { return SpecOf(tier).name; }

// A byte count or an address, rounded up to the tier's alignment.
constexpr int64_t AlignedUp(TierKind tier, int64_t bytes) {
  const int64_t alignment = SpecOf(tier).alignment;
  return (bytes + alignment - 1) / alignment * alignment;
}

// The next tier on the way from one tier to a different one.
constexpr TierKind Toward(TierKind from, TierKind to) {
  return static_cast<TierKind>(static_cast<int>(from) + (to > from ? 1 : -1));
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_BASE_TIER_KIND_H_
