// One rank's pages on a drive: a preallocated file of a fixed size, with a checksum per block in memory.
//
// The file is scratch space of one run (only checkpoints persist). It has no name, so nothing is left behind and no
// other run can come across it. Every byte read back is what was written last, or the read is an error.
#ifndef ANGEL_PTM_MEMORY_FILE_STORE_H_
#define ANGEL_PTM_MEMORY_FILE_STORE_H_

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "angel_ptm/base/checksum.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/memory/block_file.h"

namespace angel_ptm {

struct FileStoreOptions {
  std::string directory;  // must exist
  std::string name;       // in messages: "pages of rank 3"
  int64_t bytes = 0;      // of the file: a multiple of block_bytes, > 0
  // The unit that has a checksum, 8 bytes of memory each, and is read and written as a whole: a power of two, at least
  // kFileAlignment. Transfers are split only between blocks, so a page should have several.
  int64_t block_bytes = 0;
  bool allow_buffered = false;  // where there is no direct I/O (tmpfs): use the page cache instead of refusing
  int queue_depth = 32;         // requests in flight per direction, >= 1
  int64_t request_bytes = int64_t{1} << 20;  // at most, per request; a larger block is one request
  double stall_seconds = 60;                 // how long a transfer may make no progress before it is an error
};

class FileStore {
 public:
  // Reserves all of its room on the drive and all of its own memory. Errors: those of ScratchFile::Create.
  static absl::StatusOr<std::unique_ptr<FileStore>> Create(const FileStoreOptions& options);
  using Checksum = uint64_t (*)(std::span<const std::byte> block);
  // The same on a file of the caller's, which has queue_depth slots and holds options.bytes; `directory` is only used
  // in messages.
  static std::unique_ptr<FileStore> CreateOn(const FileStoreOptions& options, std::unique_ptr<BlockFile> file,
                                             Checksum checksum = Xxh3);

  FileStore(const FileStore&) = delete;
  FileStore& operator=(const FileStore&) = delete;

  // Registers memory, so that transfers from and to it need no pinning of their own. It must outlive the store.
  // Optional, at most once, before the first transfer. On kResourceExhausted, which says what the limit on locked
  // memory forbids, the store works without it.
  absl::Status RegisterBuffer(std::byte* base, int64_t bytes);

  // Both block until all is done and allocate nothing unless they fail. offset and bytes: multiples of block_bytes
  // within the file; memory: kFileAlignment-aligned. One thread may write while another reads, on disjoint blocks. A
  // call that breaks these rules is a bug and CHECKed.
  //
  // Interrupted and short transfers are continued. A request that the drive fails with an I/O error is tried again,
  // kRetries times in a row.
  // Errors name the file, the byte and the reason: kDataLoss for I/O errors and wrong checksums (after a second read),
  // kResourceExhausted for a full disk, kDeadlineExceeded for a drive that stalls. After a stall every call fails, and
  // the memory of the transfer must be left as it is until the process ends, because the drive may still move bytes.
  absl::Status Write(int64_t offset, const std::byte* from, int64_t bytes);
  // Reading a block that was never written is kDataLoss, and so is reading any block of a Write that failed.
  absl::Status Read(int64_t offset, std::byte* to, int64_t bytes);

  // Totals of one direction since Create. Any thread may ask for them at any time.
  struct Totals {
    int64_t bytes = 0;    // of calls that succeeded
    double seconds = 0;   // in calls
    int64_t retries = 0;  // requests tried or read again; continued ones do not count
  };
  Totals totals(FileDirection direction) const;

  int64_t bytes() const { return options_.bytes; }
  int64_t block_bytes() const { return options_.block_bytes; }
  // "io_uring, direct I/O"
  std::string description() const { return file_->description(); }

  static constexpr int kRetries = 3;

 private:
  using Clock = std::chrono::steady_clock;

  // A request from its start until its last byte is done.
  struct Slot {
    int64_t offset = 0, bytes = 0, done = 0;
    std::byte* memory = nullptr;
    int failures = 0;
    bool read_again = false;
  };
  // One direction's state. Only the caller's thread works on it, except that `busy`, `begin` and `end` are guarded by
  // mutex_.
  struct Lane {
    std::vector<Slot> slots;
    std::vector<int> free;
    bool busy = false;
    int64_t begin = 0, end = 0;
    std::atomic<int64_t> bytes = 0, nanoseconds = 0, retries = 0;
  };

  FileStore(const FileStoreOptions& options, std::unique_ptr<BlockFile> file, Checksum checksum);

  absl::Status Call(FileDirection direction, int64_t offset, std::byte* memory, int64_t bytes);
  void Enter(FileDirection direction, int64_t offset, const std::byte* memory, int64_t bytes);
  void Leave(FileDirection direction);
  absl::Status Transfer(FileDirection direction, int64_t offset, std::byte* memory, int64_t bytes);
  void StartNext(FileDirection direction, int64_t offset, std::byte* memory, int64_t bytes);
  void Continue(FileDirection direction, int slot);
  // Processes a result. True: the slot's request is done. False: it goes on.
  absl::StatusOr<bool> Take(FileDirection direction, const BlockResult& result, double* silence);
  std::optional<BlockResult> Wait(FileDirection direction, double* silence);
  absl::StatusOr<bool> Failed(FileDirection direction, int slot, int error);
  uint64_t ChecksumOf(const std::byte* block) const;
  absl::StatusOr<bool> Verify(int slot);
  absl::Status ExpectWritten(int64_t offset, int64_t bytes) const;
  absl::Status Stalled(FileDirection direction) const;
  Lane& lane(FileDirection direction) { return lanes_[static_cast<int>(direction)]; }
  const Lane& lane(FileDirection direction) const { return lanes_[static_cast<int>(direction)]; }

  const FileStoreOptions options_;
  const int64_t request_bytes_;  // a multiple of block_bytes
  const std::unique_ptr<BlockFile> file_;
  const Checksum checksum_;
  std::vector<uint64_t> checksums_;  // by block; kNothing where no bytes can be trusted
  std::array<Lane, kFileDirections> lanes_;
  std::mutex mutex_;
  std::atomic<bool> stalled_ = false;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MEMORY_FILE_STORE_H_
