// The file tier: a rank's pages on a drive, behind the same interface as its arenas of memory.
#ifndef ANGEL_PTM_MEMORY_FILE_TIER_H_
#define ANGEL_PTM_MEMORY_FILE_TIER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

#include "angel_ptm/memory/file_store.h"
#include "angel_ptm/memory/tier.h"

namespace angel_ptm {

// Plans move whole blocks between the store and the host's arena. Read and Write are for everything else (initial
// values, checkpoints), while no plan is played. Any thread may call them; they run one at a time and go through a
// buffer where needed. A write of part of a block reads the block first.
class FileTier : public Tier {
 public:
  explicit FileTier(std::unique_ptr<FileStore> store);

  std::byte* data() override { return nullptr; }
  absl::Status Write(int64_t offset, const void* src, int64_t bytes) override;
  absl::Status Read(int64_t offset, void* dst, int64_t bytes) override;

  FileStore& store() { return *store_; }

 private:
  struct FreeBuffer {
    void operator()(std::byte* p) const;
  };

  bool GoesStraight(int64_t offset, const void* memory, int64_t bytes) const;
  // Calls visit(first, blocks, from, count) -> absl::Status for consecutive stretches of the range, of `count` bytes
  // each, whose blocks fit into the buffer: a stretch begins `from` bytes into the whole blocks at `first`, which have
  // `blocks` bytes.
  template <typename Visit>
  absl::Status ForEachStretch(int64_t offset, int64_t bytes, Visit&& visit);

  const std::unique_ptr<FileStore> store_;
  std::mutex mutex_;  // guards buffer_, and admits one user of the store at a time
  const std::unique_ptr<std::byte[], FreeBuffer> buffer_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MEMORY_FILE_TIER_H_
