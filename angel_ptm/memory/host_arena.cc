#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/memory/tier.h"

namespace angel_ptm {
namespace {

class HostArena : public Tier {
 public:
  HostArena(TierKind kind, int64_t bytes, std::byte* data) : Tier(kind, bytes), data_(data) {}
  ~HostArena() override {
    if (data_ != nullptr) munmap(data_, static_cast<size_t>(bytes()));
  }

  std::byte* data() override { return data_; }
  void Write(int64_t offset, const void* src, int64_t n) override {
    APTM_CHECK(offset >= 0 && offset + n <= bytes());
    std::memcpy(data_ + offset, src, static_cast<size_t>(n));
  }
  void Read(int64_t offset, void* dst, int64_t n) override {
    APTM_CHECK(offset >= 0 && offset + n <= bytes());
    std::memcpy(dst, data_ + offset, static_cast<size_t>(n));
  }

 private:
  std::byte* const data_;
};

// At least what a thread costs to start.
constexpr int64_t kPieceBytes = int64_t{64} << 20;

void Touch(std::byte* data, int64_t bytes, int threads) {
  const int64_t pieces = (bytes + kPieceBytes - 1) / kPieceBytes;
  std::atomic<int64_t> next = 0;
  const auto work = [&] {
    for (int64_t i = next++; i < pieces; i = next++) {
      std::memset(data + i * kPieceBytes, 0, static_cast<size_t>(std::min(kPieceBytes, bytes - i * kPieceBytes)));
    }
  };
  std::vector<std::jthread> helpers;
  for (int64_t t = 1; t < std::min<int64_t>(threads, pieces); ++t) helpers.emplace_back(work);
  work();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tier>> MakeHostArena(TierKind kind, int64_t bytes, int threads) {
  if (bytes == 0) return std::make_unique<HostArena>(kind, 0, nullptr);
  void* data = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot reserve ", FormatBytes(bytes), " for the ", Name(kind), " tier: ", std::strerror(errno)));
  }
  madvise(data, static_cast<size_t>(bytes), MADV_HUGEPAGE);  // advice only: a refusal costs speed, not correctness
  Touch(static_cast<std::byte*>(data), bytes, threads);
  return std::make_unique<HostArena>(kind, bytes, static_cast<std::byte*>(data));
}

}  // namespace angel_ptm
