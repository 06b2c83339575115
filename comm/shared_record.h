// A fixed-size record that one thread writes and any thread or process reads, in memory that may be shared between
// processes: a sequence lock over atomic words, so a reader never sees half of a write and never blocks the writer.
#ifndef ANGEL_PTM_COMM_SHARED_RECORD_H_
#define ANGEL_PTM_COMM_SHARED_RECORD_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace angel_ptm {

template <typename T>
class SharedRecord {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % sizeof(uint64_t) == 0);
  static constexpr size_t kWords = sizeof(T) / sizeof(uint64_t);

 public:
  // One writer at a time.
  void Write(const T& value) {
    std::array<uint64_t, kWords> words;
    std::memcpy(words.data(), &value, sizeof(T));
    const uint64_t version = version_.load(std::memory_order_relaxed);
    version_.store(version + 1);
    for (size_t i = 0; i < kWords; ++i) words_[i].store(words[i]);
    version_.store(version + 2);
  }

  // Reads the newest complete value; false if the writer stopped in the middle of a write (a rank killed there).
  bool Read(T* value) const {
    for (int attempt = 0; attempt < 10000; ++attempt) {
      const uint64_t version = version_.load();
      if (version % 2 != 0) continue;
      std::array<uint64_t, kWords> words;
      for (size_t i = 0; i < kWords; ++i) words[i] = words_[i].load();
      if (version_.load() != version) continue;
      std::memcpy(static_cast<void*>(value), words.data(), sizeof(T));
      return true;
    }
    return false;
  }

 private:
  // Every access is sequentially consistent: cheap at this size, and it needs no stand-alone fences.
  std::atomic<uint64_t> version_{0};
  std::array<std::atomic<uint64_t>, kWords> words_{};
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_SHARED_RECORD_H_
