// Operands in arenas (Communicator::MakeArena), which peers read in place if the transport can. Wherever an operand
// lies in the arena, and with some operands outside, every transport delivers the same bytes and sums with the same
// bits.
#include <gtest/gtest.h>

#include <bit>
#include <chrono>
#include <cstring>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_split.h"
#include "comm/ordered_reduce_scatter.h"
#include "tests/comm/periodic_values.h"
#include "tests/comm/world_under_test.h"

namespace angel_ptm {
namespace {

constexpr int64_t kArenaBytes = (int64_t{5} << 20) + 4100;  // huge pages and a rest

std::byte ByteOf(int rank, int64_t i) { return static_cast<std::byte>((rank + 1) * 37 + i * 11 + i / 251); }

// Magnitudes differ so much that the order of a sum changes its bits.
float FloatOf(int rank, int64_t i) {
  return static_cast<float>((i * 7919 + rank * 104729) % 1000003 - 500000) *
         std::bit_cast<float>(static_cast<uint32_t>(110 + (i + 5 * rank) % 30) << 23);
}

// Hands out parts of an arena, or of other memory, one after another at odd addresses.
class Memory {
 public:
  // `in_arena` is this rank's wish; a transport without arenas gives other memory.
  Memory(Communicator& comm, bool in_arena) {
    auto arena = comm.MakeArena(kArenaBytes, 2, {"test arena"});
    EXPECT_TRUE(arena.ok()) << arena.status();
    if (arena.ok()) arena_ = *std::move(arena);
    outside_.resize(kArenaBytes);
    data_ = in_arena && arena_ != nullptr ? arena_.get() : outside_.data();
    shared_ = arena_ != nullptr;
  }

  std::byte* Take(int64_t bytes, int64_t gap = 0) {
    std::byte* const p = data_ + used_ + gap;
    used_ += gap + bytes;
    EXPECT_LE(used_, kArenaBytes);
    return p;
  }
  std::span<std::byte> Bytes(int64_t n, int64_t gap) { return {Take(n, gap), static_cast<size_t>(n)}; }
  std::span<float> Floats(int64_t n, int64_t gap) {
    used_ = (used_ + 3) / 4 * 4;
    return {reinterpret_cast<float*>(Take(4 * n, 4 * gap)), static_cast<size_t>(n)};
  }
  void Reset() { used_ = 0; }
  bool shared() const { return shared_; }
  std::byte* begin() const { return data_; }

 private:
  std::shared_ptr<std::byte> arena_;
  std::vector<std::byte> outside_;
  std::byte* data_ = nullptr;
  int64_t used_ = 0;
  bool shared_ = false;
};

// What a rank sends. Tests number ranks themselves, with numbers beyond the world's.
constexpr int kSendersMax = 40;
const PeriodicValues<std::byte>& BytesOf(int rank) {
  static const auto* const bytes = [] {
    auto* const all = new std::vector<PeriodicValues<std::byte>>;
    for (int r = 0; r < kSendersMax; ++r) all->emplace_back([r](int64_t i) { return ByteOf(r, i); });
    return all;
  }();
  return bytes->at(static_cast<size_t>(rank));
}
void Fill(std::span<std::byte> bytes, int rank) { BytesOf(rank).Fill(bytes); }
bool Holds(std::span<const std::byte> bytes, int rank, int64_t from) {
  return BytesOf(rank).FirstDifference(bytes, from) < 0;
}

// Which ranks have their operands in the arena.
using Insiders = bool (*)(int rank);
constexpr Insiders kAll = [](int) { return true; };
constexpr Insiders kOdd = [](int rank) { return rank % 2 != 0; };
constexpr Insiders kNone = [](int) { return false; };

class ArenaTest : public testing::TestWithParam<TestWorld> {
 protected:
  // Calls fn on every rank: with the operands of all, of some and of none of the ranks in arenas.
  void RunEach(const std::function<void(Communicator&, Memory&)>& fn) {
    for (const Insiders inside : {kAll, kOdd, kNone}) {
      RunWorld(GetParam(), [&](Communicator& comm) {
        Memory memory(comm, inside(comm.rank()));
        fn(comm, memory);
      });
    }
  }
};

constexpr int64_t kSizes[] = {0, 1, 63, 4097, 70001};

TEST_P(ArenaTest, EveryVerbMovesTheSameBytesFromOddPlaces) {
  RunEach([](Communicator& comm, Memory& memory) {
    const int size = comm.size(), rank = comm.rank();
    for (const int64_t n : kSizes) {
      memory.Reset();
      const std::span<std::byte> src = memory.Bytes(n, 13), all = memory.Bytes(n * size, 7);
      Fill(src, rank);
      ASSERT_TRUE(comm.AllGather(all, src, {"gather", n}).ok());
      for (int r = 0; r < size; ++r) ASSERT_TRUE(Holds(all.subspan(r * n, n), r, 0)) << n << " from " << r;

      const std::span<std::byte> blocks = memory.Bytes(n * size, 5), arrived = memory.Bytes(n * size, 3);
      Fill(blocks, rank);
      ASSERT_TRUE(comm.AllToAll(arrived, SendBlocks::Parts(blocks, size), {"transpose", n}).ok());
      for (int r = 0; r < size; ++r) ASSERT_TRUE(Holds(arrived.subspan(r * n, n), r, rank * n)) << n << " from " << r;

      Fill(src, rank);
      ASSERT_TRUE(comm.Broadcast(src, size - 1, {"broadcast", n}).ok());
      ASSERT_TRUE(Holds(src, size - 1, 0)) << n;
    }
  });
}

TEST_P(ArenaTest, SumsHaveTheBitsOfRankOrder) {
  const bool in_pieces = GetParam().transport.ends_with("_in_pieces");
  std::vector<PeriodicValues<float>> values;
  for (int r = 0; r < GetParam().size; ++r) values.emplace_back([r](int64_t i) { return FloatOf(r, i); });
  std::vector<const PeriodicValues<float>*> in_order;
  for (const PeriodicValues<float>& of_rank : values) in_order.push_back(&of_rank);
  const PeriodicValues<float> sums = OrderedSums(in_order);
  RunEach([&](Communicator& comm, Memory& memory) {
    const int size = comm.size(), rank = comm.rank();
    const PeriodicValues<float>& own = values[static_cast<size_t>(rank)];
    const PeriodicValues<float> added([&](int64_t i) { return sums[i] + 0.75f; });
    const PeriodicValues<float> added_to_own([&](int64_t i) { return sums[i] + own[i]; });
    for (const int64_t n : {1, 255, 4097, 66000}) {
      if (in_pieces && n > 4097) continue;
      for (const bool accumulate : {false, true}) {
        for (const bool in_place : {false, true}) {
          memory.Reset();
          const std::span<float> src = memory.Floats(n * size, 3), apart = memory.Floats(n, 1);
          own.Fill(src);
          const std::span<float> dst = in_place ? src.subspan(rank * n, n) : apart;
          if (!in_place) std::fill(dst.begin(), dst.end(), 0.75f);
          std::vector<std::byte> scratch(static_cast<size_t>(ReduceScratchBytes(n, size)));
          ASSERT_TRUE(OrderedReduceScatter(comm, dst, src, accumulate, scratch, {"reduce", n}).ok());
          const PeriodicValues<float>& wanted = !accumulate ? sums : in_place ? added_to_own : added;
          ASSERT_EQ(wanted.FirstDifference(dst, rank * n), -1) << n << " " << in_place << " " << accumulate;
        }
      }
    }
  });
}

// A transport that can avoid the copy does: it shows all blocks in one call, where they lie.
TEST_P(ArenaTest, BlocksInArenasAreReadInPlace) {
  const bool in_place = !GetParam().by_messages();
  RunWorld(GetParam(), [&](Communicator& comm) {
    Memory memory(comm, true);
    EXPECT_EQ(memory.shared(), GetParam().has_arenas());
    const int64_t n = 100003;
    const std::span<std::byte> src = memory.Bytes(n * comm.size(), 1);
    Fill(src, comm.rank());
    std::vector<std::byte> scratch(static_cast<size_t>(64 * 1024 * comm.size()));
    int calls = 0;
    const auto read = [&](int, int64_t begin, int64_t bytes, std::span<const std::byte* const> blocks) {
      ++calls;
      for (int r = 0; r < comm.size(); ++r) {
        EXPECT_TRUE(Holds({blocks[r], static_cast<size_t>(bytes)}, r, comm.rank() * n + begin));
        EXPECT_NE(blocks[r] >= scratch.data() && blocks[r] < scratch.data() + scratch.size(), in_place);
      }
    };
    ASSERT_TRUE(comm.ReadBlocks(SendBlocks::Parts(src, comm.size()), scratch, read, {"read"}).ok());
    EXPECT_EQ(calls, in_place ? 1 : 2);
  });
}

// A rank overwrites its operand as soon as its call returns: by then all peers have read it.
TEST_P(ArenaTest, OperandsAreReadBeforeACallReturns) {
  RunWorld(GetParam(), [](Communicator& comm) {
    Memory memory(comm, true);
    const int64_t n = 3000;
    const std::span<std::byte> src = memory.Bytes(n * comm.size(), 0);
    std::vector<std::byte> scratch(static_cast<size_t>(n * comm.size()) + 64 * 64);
    for (int call = 0; call < 30; ++call) {
      Fill(src, comm.rank() + call);
      const auto read = [&](int, int64_t begin, int64_t bytes, std::span<const std::byte* const> blocks) {
        if (call % comm.size() == comm.rank()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        for (int r = 0; r < comm.size(); ++r) {
          ASSERT_TRUE(Holds({blocks[r], static_cast<size_t>(bytes)}, r + call, comm.rank() * n + begin)) << call;
        }
      };
      ASSERT_TRUE(comm.ReadBlocks(SendBlocks::Parts(src, comm.size()), scratch, read, {"read", call}).ok());
    }
  });
}

TEST_P(ArenaTest, MayDifferInSizeAndServeGroups) {
  RunWorld(GetParam(), [](Communicator& comm) {
    const int rank = comm.rank();
    auto before = comm.Split(rank % 2, {"halves"});
    ASSERT_TRUE(before.ok()) << before.status();
    const auto first = comm.MakeArena(rank == 0 ? 0 : 4096 * rank, 1, {"first"});
    const auto second = comm.MakeArena(8192, 1, {"second"});
    ASSERT_TRUE(first.ok() && second.ok());
    if (*second == nullptr) return;
    std::vector<int> all(static_cast<size_t>((*before)->size()));
    int* const mine = reinterpret_cast<int*>(second->get()) + 5;
    *mine = rank;
    const auto bytes = std::as_writable_bytes(std::span(all));
    ASSERT_TRUE((*before)->AllGather(bytes, std::as_bytes(std::span(mine, 1)), {"of a half"}).ok());
    for (size_t r = 0; r < all.size(); ++r) EXPECT_EQ(all[r], (*before)->world_rank(static_cast<int>(r)));
  });
}

// How many shared memory files this process has mapped.
int MappedPieces() {
  std::ifstream maps("/proc/self/maps");
  std::set<std::string> files;  // by device and inode: one file may be mapped in several parts
  for (std::string line; std::getline(maps, line);) {
    if (!line.ends_with("/memfd:angel-ptm (deleted)")) continue;
    const std::vector<std::string> columns = absl::StrSplit(line, ' ', absl::SkipEmpty());
    files.insert(columns[3] + columns[4]);
  }
  return static_cast<int>(files.size());
}

TEST_P(ArenaTest, OnesThatAllHaveDroppedAreUnmapped) {
  RunWorld(GetParam(), [](Communicator& comm) {
    const auto kept = comm.MakeArena(4096, 1, {"kept"});
    ASSERT_TRUE(kept.ok());
    if (*kept == nullptr) return;
    *kept->get() = static_cast<std::byte>(comm.rank());
    std::shared_ptr<std::byte> late;  // kept by one rank after its peers have dropped theirs
    const int before = MappedPieces();
    for (int round = 0; round < 200; ++round) {
      const auto arena = comm.MakeArena(4096 + 4096 * comm.rank(), 1, {"dropped"});
      ASSERT_TRUE(arena.ok());
      if (round == 100 && comm.rank() == 1) late = *arena;
      std::vector<int> all(static_cast<size_t>(comm.size()));
      const auto bytes = std::as_writable_bytes(std::span(all));
      int* const mine = reinterpret_cast<int*>(arena->get());
      *mine = round * comm.size() + comm.rank();
      ASSERT_TRUE(comm.AllGather(bytes, std::as_bytes(std::span(mine, 1)), {"of a round"}).ok());
      for (int r = 0; r < comm.size(); ++r) ASSERT_EQ(all[static_cast<size_t>(r)], round * comm.size() + r);
    }
    EXPECT_LE(MappedPieces() - before, 2 * comm.size());
    std::vector<std::byte> ranks(static_cast<size_t>(comm.size()));
    ASSERT_TRUE(comm.AllGather(ranks, {kept->get(), 1}, {"of the kept one"}).ok());
    for (size_t r = 0; r < ranks.size(); ++r) EXPECT_EQ(ranks[r], static_cast<std::byte>(r));
  });
}

TEST_P(ArenaTest, MemoryThatOneRankCannotHaveIsAnErrorOfAll) {
  if (!GetParam().has_arenas()) GTEST_SKIP() << "shares no memory";
  RunWorld(GetParam(), [](Communicator& comm) {
    const auto arena = comm.MakeArena(comm.rank() == 1 ? int64_t{1} << 60 : 4096, 1, {"huge arena"});
    ASSERT_FALSE(arena.ok());
    const std::string text(arena.status().message());
    EXPECT_NE(text.find(comm.rank() == 1 ? "cannot reserve" : "rank 1 cannot have its memory for huge arena"),
              std::string::npos)
        << text;
    EXPECT_TRUE(comm.Barrier({"still usable"}).ok());
  });
}

INSTANTIATE_TEST_SUITE_P(Worlds, ArenaTest, testing::ValuesIn(TestWorlds()),
                         [](const auto& instance) { return testing::PrintToString(instance.param); });

}  // namespace
}  // namespace angel_ptm
