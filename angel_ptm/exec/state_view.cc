// A rank's state as it lies at home.
#include <algorithm>

#include "angel_ptm/exec/executor.h"
#include "angel_ptm/model/lock_free.h"

namespace angel_ptm {

std::vector<StateView> StateViews(const Layout& layout, const Machine& machine) {
  std::vector<StateView> views;
  const LockFreeRows rows = FindLockFreeRows(layout.states);
  for (const Home& home : layout.homes) {
    if (home.elements == 0 || layout.shares_place(home.state) || rows.shared(home.state)) continue;
    Tier& tier = *TierOf(machine, home.range.tier);
    const int rank = machine.communicator->rank();
    views.push_back({.unit = home.unit,
                     .state = home.state,
                     .dtype = layout.states[home.state].dtype,
                     .begin = layout.own_begin(home.unit, rank),
                     .slice_elements = layout.slices[home.unit].slice_elements,
                     .stored_begin = layout.home_begin(home.unit, home.state, rank),
                     .stored_elements = home.elements,
                     .data = tier.host_data() == nullptr ? nullptr : tier.host_data() + home.range.offset,
                     .tier = &tier,
                     .offset = home.range.offset});
  }
  return views;
}

absl::Status StateView::ReadBytes(int64_t at, std::span<std::byte> out) const {
  const int64_t first = at * SizeOf(dtype), count = static_cast<int64_t>(out.size());
  APTM_CHECK(at >= 0 && first + count <= stored_elements * SizeOf(dtype));
  if (data == nullptr) return tier->Read(offset + first, out.data(), count);
  std::ranges::copy(bytes().subspan(first, count), out.begin());
  return absl::OkStatus();
}

absl::Status StateView::Read(int64_t at, std::span<float> values) const {
  if (dtype == DType::kFloat32) return ReadBytes(at, std::as_writable_bytes(values));
  std::vector<BFloat16> rounded(values.size());
  RETURN_IF_ERROR(ReadBytes(at, std::as_writable_bytes(std::span(rounded))));
  Widen(values, rounded);
  return absl::OkStatus();
}

absl::Status StateView::Write(int64_t at, std::span<const float> values) const {
  const int64_t count = static_cast<int64_t>(values.size());
  APTM_CHECK(at >= 0 && at + count <= stored_elements);
  std::span<const std::byte> in = std::as_bytes(values);
  std::vector<BFloat16> rounded;
  if (dtype == DType::kBFloat16) {
    rounded.resize(values.size());
    Round(rounded, values);
    in = std::as_bytes(std::span(rounded));
  }
  const int64_t first = at * SizeOf(dtype);
  if (data == nullptr) return tier->Write(offset + first, in.data(), static_cast<int64_t>(in.size()));
  std::ranges::copy(in, bytes().begin() + first);
  return absl::OkStatus();
}

}  // namespace angel_ptm
