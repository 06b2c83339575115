// Worlds of nodes (comm/nodes.h) and the rows of blocks that they use. On every transport the bytes are the same and
// sums add a node's ranks first. Between nodes travels no more than one sum, or one part, for all ranks of a node.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <memory>
#include <numeric>
#include <tuple>
#include <vector>

#include "angel_ptm/base/bfloat16.h"
#include "comm/checked.h"
#include "comm/forwarding_communicator.h"
#include "comm/nodes.h"
#include "comm/ordered_reduce_scatter.h"
#include "tests/comm/periodic_values.h"
#include "tests/comm/world_under_test.h"

namespace angel_ptm {
namespace {

std::byte NodeByte(int rank, int64_t i) { return static_cast<std::byte>(rank * 53 + i * 7 + i / 255); }

// Magnitudes differ so much that the order of a sum changes its bits.
float NodeFloat(int rank, int64_t i) {
  return static_cast<float>((i * 6007 + rank * 90001) % 999983 - 490000) *
         std::bit_cast<float>(static_cast<uint32_t>(112 + (i + 7 * rank) % 28) << 23);
}
BFloat16 NodeBf16(int rank, int64_t i) { return ToBFloat16(NodeFloat(rank, i)); }

// The node sizes that a world can have; none for a prime number of ranks.
std::vector<int> NodeSizes(int ranks) {
  std::vector<int> sizes;
  for (int n = 2; n < ranks; ++n) {
    if (ranks % n == 0) sizes.push_back(n);
  }
  return sizes;
}

// The sum of all ranks' rows, adding each node's ranks first.
template <typename ValueOf>
PeriodicValues<float> SumsByNode(int ranks, int per_node, const ValueOf& value) {
  return PeriodicValues<float>([&](int64_t i) {
    float sum = 0;
    for (int first = 0; first < ranks; first += per_node) {
      float of_node = value(first, i);
      for (int r = first + 1; r < first + per_node; ++r) of_node += value(r, i);
      sum = first == 0 ? of_node : sum + of_node;
    }
    return sum;
  });
}

std::unique_ptr<Communicator> NodesOrDie(Communicator& world, int per_node) {
  absl::StatusOr<std::unique_ptr<Communicator>> nodes = CreateNodes(world, per_node);
  EXPECT_TRUE(nodes.ok()) << nodes.status();
  return nodes.ok() ? *std::move(nodes) : nullptr;
}

// Memory of `bytes`, 64-byte aligned; in an arena if that is wanted and the transport has one.
class Room {
 public:
  Room(Communicator& comm, int64_t bytes, bool in_arena) : bytes_(bytes) {
    auto arena = comm.MakeArena(bytes, 1, {"room"});
    EXPECT_TRUE(arena.ok()) << arena.status();
    if (arena.ok()) arena_ = *std::move(arena);
    outside_.resize(static_cast<size_t>(bytes / 64 + 1));
    data_ = in_arena && arena_ != nullptr ? arena_.get() : outside_[0].bytes;
  }
  template <typename T>
  std::span<T> Take(int64_t n) {
    T* const taken = reinterpret_cast<T*>(data_ + used_);
    used_ += (n * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
    EXPECT_LE(used_, bytes_);
    return {taken, static_cast<size_t>(n)};
  }
  void Reset() { used_ = 0; }

 private:
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  const int64_t bytes_;
  std::shared_ptr<std::byte> arena_;
  std::vector<Line> outside_;
  std::byte* data_ = nullptr;
  int64_t used_ = 0;
};

class NodesTest : public testing::TestWithParam<TestWorld> {};

TEST_P(NodesTest, AnAllGatherOfRowsFillsThemInPlace) {
  RunWorld(GetParam(), [](Communicator& comm) {
    const int size = comm.size();
    for (const bool in_arena : {false, true}) {
      Room room(comm, 1 << 20, in_arena);
      for (const auto& [rows, bytes, gap] : {std::tuple{1, 100, 0}, {1, 5000, 64}, {3, 4097, 0}, {4, 700, 36}}) {
        room.Reset();
        const int64_t stride = bytes + gap, row_stride = size * stride + 3 * gap;
        const std::span<std::byte> memory = room.Take<std::byte>(rows * row_stride);
        std::memset(memory.data(), 0xee, memory.size());
        const GatheredBlocks all = {memory.data(), stride, bytes, rows, row_stride};
        const auto wanted = [&](int rank, int row, int64_t i) { return NodeByte(rank, row * 1000 + i); };
        for (int row = 0; row < rows; ++row) {
          for (int64_t i = 0; i < bytes; ++i) all.At(comm.rank(), row)[i] = wanted(comm.rank(), row, i);
        }
        ASSERT_TRUE(comm.AllGatherInPlace(all, {"rows"}).ok());
        int64_t filled = 0;
        for (int row = 0; row < rows; ++row) {
          for (int r = 0; r < size; ++r) {
            for (int64_t i = 0; i < bytes; ++i) filled += all.At(r, row)[i] == wanted(r, row, i);
            std::memset(all.At(r, row), 0xee, static_cast<size_t>(bytes));
          }
        }
        EXPECT_EQ(filled, rows * size * bytes) << rows;
        EXPECT_THAT(memory, testing::Each(std::byte{0xee})) << "between the blocks";
      }
    }
  });
}

TEST_P(NodesTest, RowsOfBlocksAreReadOnceAndInOrder) {
  RunWorld(GetParam(), [](Communicator& comm) {
    const int size = comm.size(), rows = 3;
    const int64_t bytes = 9000;
    for (const bool in_arena : {false, true}) {
      Room room(comm, 1 << 20, in_arena);
      const std::span<std::byte> src = room.Take<std::byte>(rows * size * bytes);
      for (int64_t i = 0; i < rows * size * bytes; ++i) src[static_cast<size_t>(i)] = NodeByte(comm.rank(), i);
      std::vector<int64_t> seen(rows, 0);
      const std::span<std::byte> scratch = room.Take<std::byte>(int64_t{2048} * size);
      const auto read = [&](int row, int64_t begin, int64_t n, std::span<const std::byte* const> blocks) {
        EXPECT_EQ(begin, seen[static_cast<size_t>(row)]);
        seen[static_cast<size_t>(row)] += n;
        for (int r = 0; r < size; ++r) {
          const int64_t at = (row * size + comm.rank()) * bytes + begin;
          int64_t right = 0;
          for (int64_t i = 0; i < n; ++i) right += blocks[static_cast<size_t>(r)][i] == NodeByte(r, at + i);
          EXPECT_EQ(right, n) << "row " << row << " of rank " << r;
        }
      };
      ASSERT_TRUE(comm.ReadBlocks({src.data(), bytes, bytes, rows, size * bytes}, scratch, read, {"rows"}).ok());
      EXPECT_THAT(seen, testing::Each(bytes));
    }
  });
}

TEST_P(NodesTest, AllGatherPlacesEveryRanksBytes) {
  RunWorld(GetParam(), [](Communicator& comm) {
    for (const int per_node : NodeSizes(comm.size())) {
      const auto nodes = NodesOrDie(comm, per_node);
      ASSERT_NE(nodes, nullptr);
      EXPECT_EQ(nodes->levels()->inside->size(), per_node);
      EXPECT_EQ(nodes->levels()->across->size(), comm.size() / per_node);
      for (const int64_t n : {0, 1, 255, 40000}) {
        std::vector<std::byte> dst(static_cast<size_t>(n * comm.size())), src(static_cast<size_t>(n));
        for (int64_t i = 0; i < n; ++i) src[static_cast<size_t>(i)] = NodeByte(comm.rank(), i);
        ASSERT_TRUE(nodes->AllGather(dst, src, {"gather", n}).ok());
        int64_t right = 0;
        for (int64_t i = 0; i < n * comm.size(); ++i) {
          right += dst[static_cast<size_t>(i)] == NodeByte(static_cast<int>(i / n), i % n);
        }
        EXPECT_EQ(right, n * comm.size());
      }
    }
  });
}

// More than one round: a round has pieces of at most a million floats.
constexpr int64_t kRounds = kReducePieceBytesMax / 4 + 2048;

TEST_P(NodesTest, ReduceScatterAddsANodesRanksFirst) {
  for (const int per_node : NodeSizes(GetParam().size)) {
    const int size = GetParam().size;
    const PeriodicValues<float> sums = SumsByNode(size, per_node, NodeFloat);
    const PeriodicValues<float> added([&](int64_t i) { return 0.75f + sums[i]; });
    std::vector<PeriodicValues<float>> own;
    for (int r = 0; r < size; ++r) own.emplace_back([&](int64_t i) { return NodeFloat(r, i); });
    RunWorld(GetParam(), [&](Communicator& comm) {
      const auto nodes = NodesOrDie(comm, per_node);
      ASSERT_NE(nodes, nullptr);
      for (const int64_t n : {int64_t{1}, int64_t{4097}, kRounds}) {
        if (n == kRounds && (size > 4 || GetParam().transport.ends_with("_in_pieces"))) continue;
        const int64_t scratch_bytes = ReduceScratchBytes(n, {size, per_node});
        Room room(comm, n * size * 4 + n * 4 + scratch_bytes + 256, n != 1);
        for (const bool accumulate : {false, true}) {
          room.Reset();
          const std::span<float> src = room.Take<float>(n * size), dst = room.Take<float>(n);
          const std::span<std::byte> scratch = room.Take<std::byte>(scratch_bytes);
          own[static_cast<size_t>(comm.rank())].Fill(src);
          std::fill(dst.begin(), dst.end(), 0.75f);
          ASSERT_TRUE(OrderedReduceScatter(*nodes, dst, src, accumulate, scratch, {"reduce", n}).ok());
          ASSERT_EQ((accumulate ? added : sums).FirstDifference(dst, comm.rank() * n), -1) << n << " " << accumulate;
          // The destination is this rank's own part of the source.
          const std::span<float> part = src.subspan(static_cast<size_t>(comm.rank() * n), static_cast<size_t>(n));
          ASSERT_TRUE(OrderedReduceScatter(*nodes, part, src, false, scratch, {"in place", n}).ok());
          ASSERT_EQ(sums.FirstDifference(part, comm.rank() * n), -1) << n;
        }
      }
    });
  }
}

TEST_P(NodesTest, SumsOfBf16StayInFp32BetweenTheLevels) {
  for (const int per_node : NodeSizes(GetParam().size)) {
    const PeriodicValues<float> sums =
        SumsByNode(GetParam().size, per_node, [](int r, int64_t i) { return ToFloat(NodeBf16(r, i)); });
    const PeriodicValues<BFloat16> rounded([&](int64_t i) { return ToBFloat16(sums[i]); });
    RunWorld(GetParam(), [&](Communicator& comm) {
      const auto nodes = NodesOrDie(comm, per_node);
      ASSERT_NE(nodes, nullptr);
      const int64_t n = 5000;
      std::vector<BFloat16> src(static_cast<size_t>(n * comm.size())), dst(static_cast<size_t>(n));
      for (int64_t i = 0; i < n * comm.size(); ++i) {
        src[static_cast<size_t>(i)] = NodeBf16(comm.rank(), i % PeriodicValues<float>::kPeriod);
      }
      std::vector<float> fp32(static_cast<size_t>(n));
      const WorldShape world(comm.size(), per_node);
      const int64_t bytes = ReduceScratchBytes(n, world, DType::kBFloat16);
      Room room(comm, bytes + 64, false);
      const std::span<std::byte> scratch = room.Take<std::byte>(bytes);
      const Addends addends(std::as_bytes(std::span(src)), DType::kBFloat16);
      ASSERT_TRUE(OrderedReduceScatter(*nodes, fp32, addends, false, scratch, {"to fp32"}).ok());
      EXPECT_EQ(sums.FirstDifference(fp32, comm.rank() * n), -1);
      ASSERT_TRUE(OrderedReduceScatter(*nodes, {std::as_writable_bytes(std::span(dst)), DType::kBFloat16}, addends,
                                       false, scratch, {"to bf16"})
                      .ok());
      EXPECT_EQ(rounded.FirstDifference(dst, comm.rank() * n), -1);
    });
  }
}

// Control: summing all ranks at once, or by nodes of another size, gives other bits.
TEST(NodeReductionTest, NodeSizesAreSeenInTheBits) {
  const PeriodicValues<float> two = SumsByNode(8, 2, NodeFloat);
  for (const int other : {1, 4, 8}) {
    const PeriodicValues<float> sums = SumsByNode(8, other, NodeFloat);
    int64_t different = 0;
    for (int64_t i = 0; i < 4096; ++i) different += two[i] != sums[i];
    EXPECT_GT(different, 400) << other;
  }
}

// Counts the bytes that a rank receives from the other ranks of each group.
class Counting final : public ForwardingCommunicator {
 public:
  Counting(Communicator& inner, std::vector<int64_t>& arrived)
      : ForwardingCommunicator(inner), arrived_(arrived), group_(arrived.size()) {
    arrived_.push_back(0);
  }
  absl::Status AllGatherInPlace(const GatheredBlocks& all, CallTag tag) override {
    arrived_[group_] += (size() - 1) * all.rows * all.bytes;
    return ForwardingCommunicator::AllGatherInPlace(all, tag);
  }
  absl::Status AllToAll(std::span<std::byte> dst, const SendBlocks& src, CallTag tag) override {
    arrived_[group_] += (size() - 1) * src.bytes;
    return ForwardingCommunicator::AllToAll(dst, src, tag);
  }
  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, CallTag tag) override {
    return SplitInto(color, tag, [this](Communicator& group) { return std::make_unique<Counting>(group, arrived_); });
  }

 private:
  std::vector<int64_t>& arrived_;  // by communicator, in order of creation
  const size_t group_;
};

TEST_P(NodesTest, WhatANodeNeedsGoesAcrossOnce) {
  RunWorld(GetParam(), [](Communicator& comm) {
    for (const int per_node : NodeSizes(comm.size())) {
      std::vector<int64_t> arrived;
      Counting counting(comm, arrived);
      const auto nodes = NodesOrDie(counting, per_node);
      ASSERT_NE(nodes, nullptr);
      const int64_t n = 4096, others = comm.size() / per_node - 1;
      std::vector<float> whole(static_cast<size_t>(n * comm.size())), part(static_cast<size_t>(n));
      ASSERT_TRUE(
          nodes->AllGather(std::as_writable_bytes(std::span(whole)), std::as_bytes(std::span(part)), {"gather"}).ok());
      // The world, a rank's node, the ranks at its place in all nodes: a node's ranks together receive every other part
      // once.
      EXPECT_THAT(arrived, testing::ElementsAre(0, (per_node - 1) * (others + 1) * n * 4, others * n * 4));
      const int64_t bytes = ReduceScratchBytes(n, {comm.size(), per_node});
      Room room(comm, bytes + 64, false);
      ASSERT_TRUE(OrderedReduceScatter(*nodes, part, whole, false, room.Take<std::byte>(bytes), {"reduce"}).ok());
      EXPECT_THAT(arrived, testing::ElementsAre(0, 2 * (per_node - 1) * (others + 1) * n * 4, 2 * others * n * 4));
    }
  });
}

// Law 4 holds for the levels: the checked communicator's history contains their calls.
TEST_P(NodesTest, ALevelsCallsAreInTheHistory) {
  RunWorld(GetParam(), [](Communicator& comm) {
    for (const int per_node : NodeSizes(comm.size())) {
      const auto nodes = NodesOrDie(comm, per_node);
      ASSERT_NE(nodes, nullptr);
      for (const SequenceCheck check : {SequenceCheck::kHistory, SequenceCheck::kEveryCall}) {
        CheckedCommunicator checked(nodes.get(), check);
        std::vector<float> whole(static_cast<size_t>(100 * comm.size())), part(100);
        const int64_t bytes = ReduceScratchBytes(100, {comm.size(), per_node});
        Room room(comm, bytes + 64, false);
        ASSERT_TRUE(OrderedReduceScatter(checked, part, whole, false, room.Take<std::byte>(bytes), {"reduce"}).ok());
        EXPECT_GE(checked.calls(), 2);
        EXPECT_TRUE(checked.VerifySameHistory({"same"}).ok());
      }
      // The nodes add under different names.
      CheckedCommunicator checked(nodes.get(), SequenceCheck::kHistory);
      const char* const name = comm.rank() < per_node ? "layer.1" : "layer.2";
      ASSERT_TRUE(checked.levels()->inside->Barrier({name}).ok());
      const absl::Status status = checked.VerifySameHistory({"different"});
      EXPECT_THAT(std::string(status.message()), testing::HasSubstr("have issued different collectives"));
    }
  });
}

TEST(NodeReductionTest, ScratchIsBoundedAtAnyWorldSize) {
  const int64_t n = int64_t{31} << 28;  // floats of a unit of 31 GiB, on one rank
  for (const auto& [size, per_node] : {std::pair{4, 2}, {6, 3}, {16, 8}, {768, 8}, {10000, 8}, {10368, 72}}) {
    for (const DType type : {DType::kFloat32, DType::kBFloat16}) {
      const NodeReduction shape(n / size, {size, per_node}, type);
      const int64_t bytes = ReduceScratchBytes(n / size, {size, per_node}, type);
      EXPECT_EQ(bytes, shape.sums_bytes + shape.arrivals_bytes);
      EXPECT_LE(bytes, 2 * kReduceScratchBytesMax) << size;
      EXPECT_EQ(shape.sums_bytes % 64, 0);
      EXPECT_EQ(shape.round_elements % 64, 0);
      EXPECT_GE(shape.arrivals_bytes, 64 * std::max(per_node, size / per_node));
    }
  }
  EXPECT_EQ(ReduceScratchBytes(1000, {8, 8}), ReduceScratchBytes(1000, 8));
  EXPECT_EQ(ReduceScratchBytes(1000, {8, 1}), ReduceScratchBytes(1000, 8));
  EXPECT_LT(ReduceScratchBytes(1 << 16, {64, 8}), ReduceScratchBytes(1 << 16, 64));
}

INSTANTIATE_TEST_SUITE_P(Worlds, NodesTest, testing::ValuesIn(TestWorlds()),
                         [](const auto& instance) { return testing::PrintToString(instance.param); });

}  // namespace
}  // namespace angel_ptm
