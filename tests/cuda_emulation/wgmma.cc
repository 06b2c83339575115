// wgmma: products that a warpgroup's four warps issue together and that run asynchronously until they are waited for.
// From issue to wait the matrix unit owns the accumulators: the registers hold NaN patterns, and touching them is a
// fault.
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <memory>
#include <vector>

#include "tests/cuda_emulation/memory.h"
#include "tests/cuda_emulation/sabotage.h"
#include "tests/cuda_emulation/swizzle.h"

namespace angel_ptm::emulated {
namespace {

constexpr int kRows = 64, kDepth = 16;
constexpr std::uint32_t kInFlightBits = 0x7fbadbad;  // a NaN
constexpr std::uint32_t kChunkBytes = 16;

struct Accumulator {
  int n;
  std::vector<float> values;  // [64, n]
};

struct Product {
  int n;
  bool a_in_registers, accumulates, a_transposed, b_transposed;
  std::uint64_t a_descriptor, b_descriptor;
  const void* at;
  std::array<std::array<std::uint32_t, 4>, kWarpgroup> a = {};
  std::shared_ptr<Accumulator> accumulator;
  int issued = 0;  // threads
};

struct WarpGroup {
  std::vector<Product> products;
  std::size_t executed = 0;
  std::vector<int> waiting;
};

// The part of an accumulator in one thread's registers, owned by the matrix unit.
struct Held {
  float* registers;
  std::shared_ptr<Accumulator> accumulator;
  std::size_t end;  // of the products that add to it
};

struct ThreadProducts {
  std::size_t issued = 0;
  bool fenced = false;
  std::vector<std::size_t> groups;  // committed: where each ends
  std::vector<Held> held;
};

class Wgmmas final : public Unit {
 public:
  void StartCluster() override {
    groups.assign(Machine::Get().threads().size() / kWarpgroup, {});
    of_thread.assign(Machine::Get().threads().size(), {});
  }
  void EndThread(SimThread& thread) override {
    if (of_thread[static_cast<std::size_t>(thread.id)].held.empty()) return;
    Machine::Get().Report(Fault::kWgmma, nullptr, "the thread ends with wgmma in flight");
  }
  ThreadProducts& mine() { return of_thread[static_cast<std::size_t>(Machine::Get().self().id)]; }

  std::vector<WarpGroup> groups;
  std::vector<ThreadProducts> of_thread;
};

Wgmmas& TheWgmmas() {
  static Wgmmas wgmmas;
  return wgmmas;
}

// PTX ISA, "matrix descriptor format".
struct Descriptor {
  std::uint32_t start, leading, stride;  // bytes
  int base_offset, swizzle;

  explicit Descriptor(std::uint64_t bits)
      : start(Field(bits, 0)),
        leading(Field(bits, 16)),
        stride(Field(bits, 32)),
        base_offset(static_cast<int>(bits >> 49 & 7)),
        swizzle(static_cast<int>(bits >> 62)) {}
  static std::uint32_t Field(std::uint64_t bits, int at) {
    return static_cast<std::uint32_t>(bits >> at & 0x3fff) << 4;
  }

  // The address of element (outer, k); outer is m of A, n of B. A row of 128 bytes holds 64 k or, transposed, 64 outer.
  std::uint32_t AddressOf(bool transposed, int outer, int k) const {
    const auto o = static_cast<std::uint32_t>(outer), d = static_cast<std::uint32_t>(k);
    const std::uint32_t offset = transposed ? o % 64 * 2 + o / 64 * leading + d % 8 * kSwizzleSpan + d / 8 * stride
                                            : o % 8 * kSwizzleSpan + o / 8 * stride + d * 2;
    return Swizzled128(start + offset);
  }
};

// The descriptor holds 18 bits of the address, which lies in the block's window.
std::uint32_t InWindow(std::uint32_t address, const SimThread& thread) {
  return address % kSharedWindow + static_cast<std::uint32_t>(thread.block) * kSharedWindow;
}

// Checks that every thread of the warpgroup has synchronised with the writes that the products read.
class OperandCheck {
 public:
  OperandCheck(int group, Epoch reader, const void* at) : group_(group), reader_(reader), at_(at) {}

  void Check(std::uint64_t bits, bool transposed, int outer, const char* name) {
    Machine& machine = Machine::Get();
    const Descriptor descriptor(bits);
    if (descriptor.swizzle != 1 || descriptor.base_offset != 0) {
      machine.Stop(Fault::kWgmma, at_, absl::StrCat(name, ": its descriptor is for another swizzle than 128 bytes"));
    }
    if (!transposed && (descriptor.start % 32 != 0 || (descriptor.start & 0x380) != 0)) {
      machine.Report(Fault::kWgmma, at_, absl::StrCat(name, ": it does not start in the first row of a swizzle atom"));
    }
    for (int k = 0; k < kDepth; k += transposed ? 1 : 8) {
      for (int o = 0; o < outer; o += transposed ? 8 : 1) {
        Chunk(InWindow(descriptor.AddressOf(transposed, o, k), machine.self()), name);
      }
    }
  }

 private:
  void Chunk(std::uint32_t address, const char* name) {
    Machine& machine = Machine::Get();
    if (!InShared(address, kChunkBytes)) {
      machine.Stop(Fault::kOutOfBounds, at_, absl::StrCat(name, " reads ", SharedName(address), ", outside of it"));
    }
    SharedCell* const cells = SharedCells(address);
    for (std::size_t i = 0; i < CellsIn(kChunkBytes); ++i) {
      const SharedCell& cell = cells[i];
      const bool known = std::find(std::begin(known_), std::end(known_), cell.write) != std::end(known_);
      if (known && cell.initialised && !cell.in_flight) continue;
      const std::uint32_t at = address + static_cast<std::uint32_t>(i) * kCellBytes;
      for (int thread = 0; thread < kWarpgroup; ++thread) {
        CheckSharedRead(at, kCellBytes, Proxy::kAsync, machine.thread(group_ * kWarpgroup + thread), name, at_);
        if (!cell.initialised || cell.in_flight) break;
      }
      known_[next_known_++ % std::size(known_)] = cell.write;
    }
    NoteSharedRead(address, kChunkBytes, reader_, machine.self());
  }

  int group_;
  Epoch reader_;
  const void* at_;
  Epoch known_[8] = {};
  std::size_t next_known_ = 0;
};

float Widened(std::uint32_t address) {
  std::uint16_t bits;
  std::memcpy(&bits, SharedBytes(address), sizeof(bits));
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

// Row and column of register i of a thread's part of D (PTX ISA, wgmma fragments).
struct Place2d {
  int row, column;
};
Place2d PlaceOf(int thread, int i) {
  const int lane = thread % kLanes;
  return {thread / kLanes * 16 + lane / 4 + i / 2 % 2 * 8, i / 4 * 8 + lane % 4 * 2 + i % 2};
}

void Execute(Product& product, const SimThread& any) {
  const int n = product.n;
  std::vector<float> a(kRows * kDepth), b(static_cast<std::size_t>(kDepth * n));
  const Descriptor a_at(product.a_descriptor), b_at(product.b_descriptor);
  for (int thread = 0; product.a_in_registers && thread < kWarpgroup; ++thread) {
    const auto& registers = product.a[static_cast<std::size_t>(thread)];
    for (int i = 0; i < 8; ++i) {
      const std::uint32_t pair = registers[static_cast<std::size_t>(i / 2)];
      const int row = thread / kLanes * 16 + thread % kLanes / 4 + i / 2 % 2 * 8;
      const int k = thread % 4 * 2 + i % 2 + i / 4 * 8;
      a[static_cast<std::size_t>(row * kDepth + k)] =
          std::bit_cast<float>(i % 2 == 0 ? pair << 16 : pair & 0xffff0000u);
    }
  }
  for (int k = 0; k < kDepth; ++k) {
    for (int m = 0; !product.a_in_registers && m < kRows; ++m) {
      a[static_cast<std::size_t>(m * kDepth + k)] = Widened(InWindow(a_at.AddressOf(product.a_transposed, m, k), any));
    }
    for (int j = 0; j < n; ++j) {
      b[static_cast<std::size_t>(k * n + j)] = Widened(InWindow(b_at.AddressOf(product.b_transposed, j, k), any));
    }
  }
  float* const d = product.accumulator->values.data();
  if (!product.accumulates) std::fill_n(d, kRows * n, 0.0f);
  for (int m = 0; m < kRows; ++m) {
    for (int k = 0; k < kDepth; ++k) {
      const float factor = a[static_cast<std::size_t>(m * kDepth + k)];
      const float* const row = b.data() + k * n;
      for (int j = 0; j < n; ++j) d[m * n + j] += factor * row[j];
    }
  }
}

void ExecuteUntil(WarpGroup& group, std::size_t end, const SimThread& any) {
  for (; group.executed < end; ++group.executed) Execute(group.products[group.executed], any);
}

bool Untouched(const float* registers, int count) {
  return std::all_of(registers, registers + count,
                     [](float x) { return std::bit_cast<std::uint32_t>(x) == kInFlightBits; });
}

// The accumulator that this thread's registers belong to from now on.
std::shared_ptr<Accumulator> Take(ThreadProducts& mine, Product& product, float* registers, std::size_t index,
                                  int thread) {
  Machine& machine = Machine::Get();
  for (Held& held : mine.held) {
    if (held.registers != registers) continue;
    if (!Untouched(registers, product.n / 2)) {
      machine.Report(Fault::kWgmma, product.at, "accumulators written while wgmma is in flight");
    }
    held.end = index + 1;
    return held.accumulator;
  }
  if (!mine.fenced) machine.Report(Fault::kWgmma, product.at, "no wgmma.fence between registers and wgmma");
  if (product.accumulator == nullptr) {
    product.accumulator =
        std::make_shared<Accumulator>(product.n, std::vector<float>(static_cast<std::size_t>(kRows * product.n)));
  }
  for (int i = 0; i < product.n / 2; ++i) {
    const Place2d place = PlaceOf(thread, i);
    product.accumulator->values[static_cast<std::size_t>(place.row * product.n + place.column)] = registers[i];
    registers[i] = std::bit_cast<float>(kInFlightBits);
  }
  mine.held.push_back({registers, product.accumulator, index + 1});
  return product.accumulator;
}

}  // namespace

Unit& WgmmaUnit() { return TheWgmmas(); }

void CheckAccumulators(std::uintptr_t address, std::size_t bytes, const void* at) {
  for (const Held& held : TheWgmmas().mine().held) {
    const auto begin = reinterpret_cast<std::uintptr_t>(held.registers);
    if (address + bytes <= begin ||
        address >= begin + static_cast<std::size_t>(held.accumulator->n / 2) * sizeof(float))
      continue;
    Machine::Get().Report(Fault::kWgmma, at, "an accumulator is used while wgmma is in flight");
  }
}

void Wgmma(int n, float* d, const std::uint32_t* a, std::uint64_t a_descriptor, std::uint64_t b_descriptor,
           bool accumulates, bool a_transposed, bool b_transposed) {
  const void* const at = __builtin_return_address(0);
  Machine& machine = Machine::Get();
  machine.MayYield();
  SimThread& self = machine.self();
  const int in_group = self.id % kWarpgroup, group_id = self.id / kWarpgroup;
  ThreadProducts& mine = TheWgmmas().mine();
  WarpGroup& group = TheWgmmas().groups[static_cast<std::size_t>(group_id)];
  const std::size_t index = mine.issued++;
  if (index == group.products.size()) {
    group.products.push_back(
        {n, a != nullptr, accumulates, a_transposed, b_transposed, a_descriptor, b_descriptor, at, {}, nullptr, 0});
  }
  Product& product = group.products[index];
  if (product.n != n || product.accumulates != accumulates || product.a_descriptor != a_descriptor ||
      product.b_descriptor != b_descriptor || product.a_in_registers != (a != nullptr)) {
    machine.Stop(Fault::kWgmma, at, "the threads of a warpgroup give different operands");
  }
  if (a != nullptr) std::copy_n(a, 4, product.a[static_cast<std::size_t>(in_group)].begin());
  const std::shared_ptr<Accumulator> accumulator = Take(mine, product, d, index, in_group);
  self.accumulators_in_flight = true;
  if (product.accumulator == nullptr) product.accumulator = accumulator;
  if (product.accumulator != accumulator) machine.Stop(Fault::kWgmma, at, "a warpgroup adds to different accumulators");
  if (++product.issued < kWarpgroup) return;
  OperandCheck check(group_id, MakeEpoch(machine.MatrixAgent(group_id), static_cast<std::uint32_t>(index) + 1), at);
  if (a == nullptr) check.Check(a_descriptor, a_transposed, kRows, "wgmma's A");
  check.Check(b_descriptor, b_transposed, n, "wgmma's B");
  if (machine.in_turn() || (machine.schedule.order == Order::kRandom && machine.Random() % 2 == 0)) {
    ExecuteUntil(group, index + 1, self);
  }
  for (const int thread : group.waiting) machine.Wake(thread);
  group.waiting.clear();
}

void WgmmaFence() { TheWgmmas().mine().fenced = !Planted(Sabotage::kNoWgmmaFence); }

void WgmmaCommit() {
  ThreadProducts& mine = TheWgmmas().mine();
  mine.groups.push_back(mine.issued);
}

void WgmmaWait(int groups_left) {
  if (Planted(Sabotage::kNoWgmmaWait)) return;
  const void* const at = __builtin_return_address(0);
  Machine& machine = Machine::Get();
  SimThread& self = machine.self();
  const int in_group = self.id % kWarpgroup, group_id = self.id / kWarpgroup;
  ThreadProducts& mine = TheWgmmas().mine();
  WarpGroup& group = TheWgmmas().groups[static_cast<std::size_t>(group_id)];
  if (groups_left == 0 && (mine.groups.empty() ? 0 : mine.groups.back()) != mine.issued) {
    machine.Report(Fault::kWgmma, at, "a wait for all groups, with wgmma that no group has");
  }
  const int ended = static_cast<int>(mine.groups.size()) - groups_left;
  if (ended <= 0) return;
  const std::size_t end = mine.groups[static_cast<std::size_t>(ended - 1)];
  while (end > 0 && group.products[end - 1].issued < kWarpgroup) {
    group.waiting.push_back(self.id);
    machine.Wait([&group, end] {
      return absl::StrCat("wgmma ", end - 1, ", which ", group.products[end - 1].issued, " of 128 threads have issued");
    });
  }
  ExecuteUntil(group, end, self);
  const auto retired = std::erase_if(mine.held, [&](const Held& held) {
    if (held.end > end) return false;
    for (int i = 0; i < held.accumulator->n / 2; ++i) {
      const Place2d place = PlaceOf(in_group, i);
      held.registers[i] =
          held.accumulator->values[static_cast<std::size_t>(place.row * held.accumulator->n + place.column)];
    }
    return true;
  });
  if (retired > 0) mine.fenced = false;
  self.accumulators_in_flight = !mine.held.empty();
  machine.Acquire(self, machine.PastOf(machine.MatrixAgent(group_id), static_cast<std::uint32_t>(end)));
}

}  // namespace angel_ptm::emulated
