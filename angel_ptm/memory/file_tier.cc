#include "angel_ptm/memory/file_tier.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "angel_ptm/base/check.h"

namespace angel_ptm {
namespace {

constexpr int64_t kBufferBytes = SpecOf(TierKind::kFile).buffer_bytes;

// What a plan moves may go straight to the file.
static_assert(SpecOf(TierKind::kFile).alignment % kFileAlignment == 0);

}  // namespace

void FileTier::FreeBuffer::operator()(std::byte* p) const { std::free(p); }

FileTier::FileTier(std::unique_ptr<FileStore> store)
    : Tier(TierKind::kFile, store->bytes()),
      store_(std::move(store)),
      buffer_(static_cast<std::byte*>(std::aligned_alloc(kFileAlignment, kBufferBytes))) {
  APTM_CHECK(buffer_ != nullptr && kBufferBytes % store_->block_bytes() == 0, store_->block_bytes());
  std::memset(buffer_.get(), 0, static_cast<size_t>(kBufferBytes));  // takes the memory now, because the plan counts it
}

bool FileTier::GoesStraight(int64_t offset, const void* memory, int64_t bytes) const {
  return offset % store_->block_bytes() == 0 && bytes % store_->block_bytes() == 0 &&
         reinterpret_cast<uintptr_t>(memory) % static_cast<uintptr_t>(kFileAlignment) == 0;
}

template <typename Visit>
absl::Status FileTier::ForEachStretch(int64_t offset, int64_t bytes, Visit&& visit) {
  const int64_t block = store_->block_bytes(), end = offset + bytes;
  for (int64_t at = offset; at < end;) {
    const int64_t first = at / block * block, last = std::min(end, first + kBufferBytes);
    RETURN_IF_ERROR(visit(first, (last - first + block - 1) / block * block, at - first, last - at));
    at = last;
  }
  return absl::OkStatus();
}

absl::Status FileTier::Write(int64_t offset, const void* src, int64_t bytes) {
  const std::lock_guard lock(mutex_);
  const std::byte* from = static_cast<const std::byte*>(src);
  if (GoesStraight(offset, src, bytes)) return store_->Write(offset, from, bytes);
  return ForEachStretch(offset, bytes, [&](int64_t first, int64_t blocks, int64_t begin, int64_t count) {
    if (blocks != count) RETURN_IF_ERROR(store_->Read(first, buffer_.get(), blocks));
    std::memcpy(buffer_.get() + begin, from, static_cast<size_t>(count));
    from += count;
    return store_->Write(first, buffer_.get(), blocks);
  });
}

absl::Status FileTier::Read(int64_t offset, void* dst, int64_t bytes) {
  const std::lock_guard lock(mutex_);
  std::byte* to = static_cast<std::byte*>(dst);
  if (GoesStraight(offset, dst, bytes)) return store_->Read(offset, to, bytes);
  return ForEachStretch(offset, bytes, [&](int64_t first, int64_t blocks, int64_t begin, int64_t count) {
    RETURN_IF_ERROR(store_->Read(first, buffer_.get(), blocks));
    std::memcpy(to, buffer_.get() + begin, static_cast<size_t>(count));
    to += count;
    return absl::OkStatus();
  });
}

}  // namespace angel_ptm
