#include "angel_ptm/memory/calls_file.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"

namespace angel_ptm {
namespace {

constexpr int kThreadsMax = 4;

// First in, first out, of a fixed capacity.
template <typename T>
class Ring {
 public:
  explicit Ring(int capacity) : items_(static_cast<size_t>(capacity)) {}

  bool empty() const { return count_ == 0; }
  void Push(const T& item) {
    APTM_CHECK(count_ < items_.size());
    items_[(begin_ + count_++) % items_.size()] = item;
  }
  T Pop() {
    const T item = items_[begin_];
    begin_ = (begin_ + 1) % items_.size();
    --count_;
    return item;
  }

 private:
  std::vector<T> items_;
  size_t begin_ = 0, count_ = 0;
};

struct Queue {
  explicit Queue(int depth) : requests(depth), results(depth) {}

  std::mutex mutex;
  std::condition_variable has_request, has_result;
  Ring<BlockRequest> requests;
  Ring<BlockResult> results;
  int working = 0;  // threads inside a call
  bool closed = false;
};

// Owned by the file and its threads together: a thread that is stuck in a call outlives the file.
struct Shared {
  Shared(ScratchFile f, int depth) : file(std::move(f)), queues{Queue(depth), Queue(depth)} {}

  const ScratchFile file;
  std::array<Queue, kFileDirections> queues;
};

BlockResult Perform(int fd, FileDirection direction, const BlockRequest& request) {
  const size_t n = static_cast<size_t>(request.bytes);
  const ssize_t moved = direction == FileDirection::kRead ? pread(fd, request.memory, n, request.offset)
                                                          : pwrite(fd, request.memory, n, request.offset);
  if (moved < 0) return {.slot = request.slot, .error = errno};
  return {.slot = request.slot, .bytes = moved};
}

void Work(Shared& shared, FileDirection direction) {
  Queue& queue = shared.queues[static_cast<int>(direction)];
  std::unique_lock lock(queue.mutex);
  while (true) {
    queue.has_request.wait(lock, [&] { return queue.closed || !queue.requests.empty(); });
    if (queue.closed) return;
    const BlockRequest request = queue.requests.Pop();
    ++queue.working;
    lock.unlock();
    const BlockResult result = Perform(shared.file.fd(), direction, request);
    lock.lock();
    --queue.working;
    queue.results.Push(result);
    queue.has_result.notify_one();
  }
}

class CallsFile : public BlockFile {
 public:
  CallsFile(ScratchFile file, int queue_depth, const std::string& why)
      : shared_(std::make_shared<Shared>(std::move(file), queue_depth)), threads_(std::min(queue_depth, kThreadsMax)) {
    description_ = absl::StrCat("pread and pwrite in ", threads_, " threads each", why.empty() ? "" : " (", why,
                                why.empty() ? "" : ")", ", ", shared_->file.cache_description());
    for (const FileDirection direction : {FileDirection::kRead, FileDirection::kWrite}) {
      for (int t = 0; t < threads_; ++t) {
        workers_[static_cast<int>(direction)].emplace_back([shared = shared_, direction] { Work(*shared, direction); });
      }
    }
  }
  ~CallsFile() override {
    for (int d = 0; d < kFileDirections; ++d) {
      Queue& queue = shared_->queues[d];
      bool stuck;
      {
        const std::lock_guard lock(queue.mutex);
        queue.closed = true;
        stuck = queue.working > 0;
      }
      queue.has_request.notify_all();
      for (std::thread& worker : workers_[d]) stuck ? worker.detach() : worker.join();
    }
  }

  std::string description() const override { return description_; }
  absl::Status RegisterBuffer(std::byte*, int64_t) override { return absl::OkStatus(); }

  void Start(FileDirection direction, const BlockRequest& request) override {
    Queue& queue = shared_->queues[static_cast<int>(direction)];
    const std::lock_guard lock(queue.mutex);
    queue.requests.Push(request);
    queue.has_request.notify_one();
  }

  std::optional<BlockResult> Wait(FileDirection direction, double seconds) override {
    Queue& queue = shared_->queues[static_cast<int>(direction)];
    std::unique_lock lock(queue.mutex);
    queue.has_result.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return !queue.results.empty(); });
    if (queue.results.empty()) return std::nullopt;
    return queue.results.Pop();
  }

 private:
  const std::shared_ptr<Shared> shared_;
  const int threads_;
  std::string description_;
  std::array<std::vector<std::thread>, kFileDirections> workers_;
};

}  // namespace

std::unique_ptr<BlockFile> MakeCallsFile(ScratchFile file, int queue_depth, const std::string& why) {
  return std::make_unique<CallsFile>(std::move(file), queue_depth, why);
}

}  // namespace angel_ptm
