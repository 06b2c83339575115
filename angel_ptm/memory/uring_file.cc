#include "angel_ptm/memory/uring_file.h"

#include <liburing.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/text.h"

namespace angel_ptm {
namespace {

// The most that the kernel registers in one piece.
constexpr int64_t kPieceBytes = int64_t{1} << 30;
// Rings whose waits can time out without a request of their own (5.11) and that drop no result (5.5).
constexpr unsigned kFeatures = IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP;

class Ring {
 public:
  Ring() = default;
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  ~Ring() {
    if (made_) io_uring_queue_exit(&ring_);
  }

  // 0 or an errno.
  int Make(int depth, int fd) {
    io_uring_params params = {};
    if (const int rc = io_uring_queue_init_params(static_cast<unsigned>(depth), &ring_, &params); rc < 0) return -rc;
    made_ = true;
    if ((params.features & kFeatures) != kFeatures) return ENOSYS;
    return -io_uring_register_files(&ring_, &fd, 1);
  }
  io_uring* get() { return &ring_; }

 private:
  io_uring ring_ = {};
  bool made_ = false;
};

class UringFile : public BlockFile {
 public:
  // 0 or an errno.
  int Open(int queue_depth, int fd) {
    for (Ring& ring : rings_) {
      if (const int error = ring.Make(queue_depth, fd); error != 0) return error;
    }
    return 0;
  }
  void Take(ScratchFile file) { file_.emplace(std::move(file)); }

  std::string description() const override {
    return absl::StrCat("io_uring", registered_bytes_ > 0 ? " with registered memory" : "", ", ",
                        file_->cache_description());
  }

  absl::Status RegisterBuffer(std::byte* base, int64_t bytes) override {
    APTM_CHECK(registered_bytes_ == 0 && bytes > 0, bytes);
    std::vector<iovec> pieces;
    for (int64_t at = 0; at < bytes; at += kPieceBytes) {
      pieces.push_back({base + at, static_cast<size_t>(std::min(kPieceBytes, bytes - at))});
    }
    for (size_t i = 0; i < rings_.size(); ++i) {
      const int rc = io_uring_register_buffers(rings_[i].get(), pieces.data(), static_cast<unsigned>(pieces.size()));
      if (rc == 0) continue;
      while (i > 0) io_uring_unregister_buffers(rings_[--i].get());
      return CannotRegister(bytes, -rc);
    }
    registered_ = base;
    registered_bytes_ = bytes;
    return absl::OkStatus();
  }

  void Start(FileDirection direction, const BlockRequest& request) override {
    io_uring* const ring = rings_[static_cast<int>(direction)].get();
    io_uring_sqe* const sqe = io_uring_get_sqe(ring);
    APTM_CHECK(sqe != nullptr, "more requests than the queue is deep");
    // The rest of a longer request is asked for as after any short transfer.
    const unsigned n = static_cast<unsigned>(std::min(request.bytes, kPieceBytes));
    const int piece = PieceOf(request.memory, n);
    const uint64_t offset = static_cast<uint64_t>(request.offset);
    if (direction == FileDirection::kRead) {
      piece < 0 ? io_uring_prep_read(sqe, 0, request.memory, n, offset)
                : io_uring_prep_read_fixed(sqe, 0, request.memory, n, offset, piece);
    } else {
      piece < 0 ? io_uring_prep_write(sqe, 0, request.memory, n, offset)
                : io_uring_prep_write_fixed(sqe, 0, request.memory, n, offset, piece);
    }
    io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
    io_uring_sqe_set_data64(sqe, static_cast<uint64_t>(request.slot));
    io_uring_submit(ring);  // Wait submits again what the kernel does not take now
  }

  std::optional<BlockResult> Wait(FileDirection direction, double seconds) override {
    io_uring* const ring = rings_[static_cast<int>(direction)].get();
    const double whole = std::floor(std::min(seconds, 1e9));
    __kernel_timespec limit = {static_cast<int64_t>(whole),
                               static_cast<int64_t>((std::min(seconds, 1e9) - whole) * 1e9)};
    io_uring_cqe* cqe = nullptr;
    if (io_uring_submit_and_wait_timeout(ring, &cqe, 1, &limit, nullptr) < 0 || cqe == nullptr) return std::nullopt;
    BlockResult result{.slot = static_cast<int>(io_uring_cqe_get_data64(cqe))};
    if (cqe->res < 0) {
      result.error = -cqe->res;
    } else {
      result.bytes = cqe->res;
    }
    io_uring_cqe_seen(ring, cqe);
    return result;
  }

 private:
  static absl::Status CannotRegister(int64_t bytes, int error) {
    rlimit limit;
    if (error == ENOMEM && getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "cannot register ", FormatBytes(bytes), " of memory for reads and again for writes of files: the limit on ",
          "locked memory (ulimit -l) is ", FormatBytes(static_cast<int64_t>(limit.rlim_cur))));
    }
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot register ", FormatBytes(bytes), " of memory for files: ", std::strerror(error)));
  }

  // The registered piece that holds all of the memory, or -1.
  int PieceOf(const std::byte* memory, int64_t bytes) const {
    const auto begin = reinterpret_cast<intptr_t>(memory) - reinterpret_cast<intptr_t>(registered_);
    if (registered_bytes_ == 0 || begin < 0 || begin + bytes > registered_bytes_) return -1;
    const int64_t piece = begin / kPieceBytes;
    return piece == (begin + bytes - 1) / kPieceBytes ? static_cast<int>(piece) : -1;
  }

  std::optional<ScratchFile> file_;
  std::array<Ring, kFileDirections> rings_;  // after the file: closed before it
  std::byte* registered_ = nullptr;
  int64_t registered_bytes_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<BlockFile>> MakeUringFile(ScratchFile& file, int queue_depth) {
  auto made = std::make_unique<UringFile>();
  if (const int error = made->Open(queue_depth, file.fd()); error != 0) {
    return absl::UnavailableError(absl::StrCat("io_uring: ", std::strerror(error)));
  }
  made->Take(std::move(file));
  return made;
}

}  // namespace angel_ptm
