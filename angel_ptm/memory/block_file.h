// The interface to a file's device: transfers are started and awaited, with one queue per direction. It only moves
// bytes; FileStore (file_store.h) deals with short, failed and wrong transfers.
#ifndef ANGEL_PTM_MEMORY_BLOCK_FILE_H_
#define ANGEL_PTM_MEMORY_BLOCK_FILE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "angel_ptm/base/status.h"

namespace angel_ptm {

enum class FileDirection : uint8_t { kRead, kWrite };
inline constexpr int kFileDirections = 2;

// The alignment of every transfer's offset, size and memory: what direct I/O requires on all drives in use.
inline constexpr int64_t kFileAlignment = 4096;

struct BlockRequest {
  int slot = 0;                 // in [0, queue depth), not that of another request in flight in this direction
  int64_t offset = 0;           // in the file
  std::byte* memory = nullptr;  // a write only reads it; must stay valid until the result is there
  int64_t bytes = 0;
};

struct BlockResult {
  int slot = 0;
  int64_t bytes = 0;  // moved, from the start of the request; may be less than asked for
  int error = 0;      // an errno; then `bytes` is 0
};

// Each direction belongs to one thread at a time; two threads may use the two directions at the same time. Start and
// Wait allocate nothing.
class BlockFile {
 public:
  virtual ~BlockFile() = default;

  // How transfers are made, for logs: "io_uring, direct I/O".
  virtual std::string description() const = 0;
  // Makes transfers from and to [base, base + bytes) cheaper; the memory must outlive the file. At most once, before
  // the first transfer. An error leaves the file as it was.
  virtual absl::Status RegisterBuffer(std::byte* base, int64_t bytes) = 0;

  virtual void Start(FileDirection direction, const BlockRequest& request) = 0;
  // The result of one started transfer, in any order; nothing if none has come after `seconds`.
  virtual std::optional<BlockResult> Wait(FileDirection direction, double seconds) = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MEMORY_BLOCK_FILE_H_
