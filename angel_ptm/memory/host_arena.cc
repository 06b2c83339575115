#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/parallel_pieces.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/memory/tier.h"

namespace angel_ptm {
namespace {

class HostArena : public Tier {
 public:
  HostArena(TierKind kind, int64_t bytes, std::shared_ptr<std::byte> memory)
      : Tier(kind, bytes), memory_(std::move(memory)), data_(bytes > 0 ? memory_.get() : nullptr) {}

  std::byte* data() override { return data_; }
  absl::Status Write(int64_t offset, const void* src, int64_t n) override {
    APTM_CHECK(offset >= 0 && offset + n <= bytes());
    std::memcpy(data_ + offset, src, static_cast<size_t>(n));
    return absl::OkStatus();
  }
  absl::Status Read(int64_t offset, void* dst, int64_t n) override {
    APTM_CHECK(offset >= 0 && offset + n <= bytes());
    std::memcpy(dst, data_ + offset, static_cast<size_t>(n));
    return absl::OkStatus();
  }

 private:
  const std::shared_ptr<std::byte> memory_;
  std::byte* const data_;
};

// Enough work to be worth starting a thread.
constexpr int64_t kPieceBytes = int64_t{64} << 20;

absl::StatusOr<std::shared_ptr<std::byte>> AnonymousMemory(int64_t bytes, int threads) {
  const size_t n = static_cast<size_t>(bytes);
  void* const data = mmap(nullptr, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return absl::ResourceExhaustedError(std::strerror(errno));
  madvise(data, n, MADV_HUGEPAGE);  // advice only: a refusal costs speed, not correctness
  std::byte* const begin = static_cast<std::byte*>(data);
  ForEachPiece(bytes, kPieceBytes, threads,
               [begin](int64_t at, int64_t length) { std::memset(begin + at, 0, static_cast<size_t>(length)); });
  return std::shared_ptr<std::byte>(begin, [n](std::byte* memory) { munmap(memory, n); });
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tier>> MakeHostArena(TierKind kind, int64_t bytes, int threads,
                                                    const ArenaSource& source) {
  std::shared_ptr<std::byte> memory;
  if (source) {
    ASSIGN_OR_RETURN(memory, source(bytes, threads));
  }
  if (memory == nullptr && bytes > 0) {
    absl::StatusOr<std::shared_ptr<std::byte>> anonymous = AnonymousMemory(bytes, threads);
    if (!anonymous.ok()) {
      return absl::ResourceExhaustedError(absl::StrCat("cannot reserve ", FormatBytes(bytes), " for the ", Name(kind),
                                                       " tier: ", std::string(anonymous.status().message())));
    }
    memory = *std::move(anonymous);
  }
  return std::make_unique<HostArena>(kind, bytes, std::move(memory));
}

}  // namespace angel_ptm
