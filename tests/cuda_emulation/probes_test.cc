// Compares what the emulated instructions compute with plain loops over the same elements.
#include "tests/cuda_emulation/probes/probes.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "tests/cuda_emulation/emulator.h"

namespace angel_ptm::emulated {
namespace {

// Small integers, so that every sum is exact.
std::vector<BFloat16> Integers(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<BFloat16> values(n);
  for (BFloat16& value : values) value = ToBFloat16(static_cast<float>(random() % 17) - 8);
  return values;
}

void ExpectClean(const Schedule& schedule, const std::function<void()>& launch) {
  for (const Finding& finding : Emulate(schedule, launch)) ADD_FAILURE() << finding.Describe() << " in " << schedule;
}

TEST(ProbesTest, WgmmaReadsEveryFormOfItsOperands) {
  for (int form = 0; form < static_cast<int>(std::size(kWgmmaForms)); ++form) {
    const WgmmaForm& f = kWgmmaForms[form];
    SCOPED_TRACE(f.name);
    const auto n = static_cast<std::size_t>(f.n);
    const std::vector<BFloat16> a = Integers(64 * 64, 1), b = Integers(64 * n, 2);
    std::vector<float> want(64 * n);
    for (std::size_t i = 0; i < 64; ++i) {
      for (std::size_t j = 0; j < n; ++j) {
        for (std::size_t k = 0; k < 64; ++k) {
          const BFloat16 left = f.a_transposed ? a[k * 64 + i] : a[i * 64 + k];
          want[i * n + j] += ToFloat(left) * ToFloat(f.b_transposed ? b[k * n + j] : b[j * 64 + k]);
        }
      }
    }
    DeviceArray<BFloat16> device_a(a), device_b(b);
    for (const Schedule& schedule : Schedules(2)) {
      DeviceArray<float> c(64 * f.n);
      ExpectClean(schedule, [&] { LaunchWgmmaProbe(form, c.data(), device_a.data(), device_b.data()); });
      EXPECT_EQ(c.Get(), want) << schedule;
    }
  }
}

TEST(ProbesTest, BoxesAreZeroOutsideOfTheTensor) {
  constexpr int kColumns = 72, kRows = 5, kPlanes = 3;
  const std::vector<BFloat16> x = Integers(kColumns * kRows * kPlanes, 3);
  DeviceArray<BFloat16> device_x(x);
  for (const BoxAt at : {BoxAt{0, 0, 0}, BoxAt{8, 1, 1}, BoxAt{16, 3, 2}, BoxAt{-3, -1, -1}, BoxAt{80, 0, 0}}) {
    DeviceArray<float> y(512);
    ExpectClean({Order::kRandom, 5}, [&] { LaunchBoxProbe(y.data(), device_x.data(), kColumns, kRows, kPlanes, at); });
    const std::vector<float> got = y.Get();
    for (int i = 0; i < 512; ++i) {
      const int column = at.x + i % 64, row = at.y + i / 64 % 4, plane = at.z + i / 256;
      const bool inside = column >= 0 && column < kColumns && row >= 0 && row < kRows && plane >= 0 && plane < kPlanes;
      const float want = inside ? ToFloat(x[static_cast<std::size_t>((plane * kRows + row) * kColumns + column)]) : 0;
      EXPECT_EQ(got[static_cast<std::size_t>(i)], want) << i << " of the box at " << at.x << "," << at.y << "," << at.z;
    }
  }
}

TEST(ProbesTest, ShufflesAndVotes) {
  DeviceArray<std::uint32_t> y(kShuffles * 32);
  ExpectClean({Order::kRandom, 6}, [&] { LaunchShuffleProbe(y.data()); });
  const std::vector<std::uint32_t> got = y.Get();
  std::uint32_t thirds = 0;
  for (std::uint32_t lane = 0; lane < 32; lane += 3) thirds |= 1u << lane;
  for (std::uint32_t lane = 0; lane < 32; ++lane) {
    const std::uint32_t want[kShuffles] = {3,
                                           lane / 8 * 8 + 3,
                                           lane < 3 ? lane : lane - 3,
                                           lane % 16 < 3 ? lane : lane - 3,
                                           lane > 26 ? lane : lane + 5,
                                           lane % 8 > 2 ? lane : lane + 5,
                                           lane ^ 9,
                                           thirds,
                                           2};
    for (std::uint32_t i = 0; i < kShuffles; ++i) EXPECT_EQ(got[i * 32 + lane], want[i]) << i << " lane " << lane;
  }
}

}  // namespace
}  // namespace angel_ptm::emulated
