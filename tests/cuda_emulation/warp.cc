// What the lanes of a warp do together: they arrive one after the other, and the last one does it for all.
#include <bit>
#include <cstring>

#include "tests/cuda_emulation/memory.h"

namespace angel_ptm::emulated {
namespace {

constexpr std::uint32_t kWholeWarp = ~0u;
constexpr std::size_t kMatrixRowBytes = 16;

template <typename Fn>
void ForLanes(std::uint32_t mask, const Fn& fn) {
  for (int lane = 0; lane < kLanes; ++lane) {
    if (mask >> lane & 1) fn(lane);
  }
}

SimThread& LaneOf(const SimThread& any, int lane) { return Machine::Get().thread(any.id - any.lane + lane); }

std::string Hex(std::uint32_t mask) { return absl::StrCat("0x", absl::Hex(mask, absl::kZeroPad8)); }

// Finds the use that this lane takes part in: one that other lanes began, or a new one.
Collective& Find(SimThread& thread, const char* name, std::uint32_t mask, int parameter, const void* at) {
  Machine& machine = Machine::Get();
  const std::uint32_t lane = 1u << thread.lane;
  if ((mask & lane) == 0) {
    machine.Stop(Fault::kWarp, at, absl::StrCat(name, ": the lane itself is not in its mask ", Hex(mask)));
  }
  Collective* unused = nullptr;
  for (Collective& use : machine.warp(thread.warp).collectives) {
    if (use.mask == 0) unused = &use;
    if ((use.mask & lane) == 0) continue;
    if (use.mask == mask && use.name == name && use.parameter == parameter) return use;
    machine.Stop(Fault::kWarp, at,
                 absl::StrCat("lanes part: this one is at ", name, " with mask ", Hex(mask), ", lanes ",
                              Hex(use.arrived), " are at ", use.name, " with mask ", Hex(use.mask)));
  }
  if (unused == nullptr) machine.Stop(Fault::kWarp, at, "lanes of a warp are at more than four places");
  *unused = {.mask = mask, .arrived = 0, .name = name, .parameter = parameter, .at = at, .operands = {}};
  return *unused;
}

// `execute(use)` runs once, after all lanes of the mask have arrived with their operands.
template <typename Operands, typename Fn>
void Together(const char* name, std::uint32_t mask, int parameter, Operands& operands, const void* at,
              const Fn& execute) {
  Machine& machine = Machine::Get();
  SimThread& thread = machine.self();
  Collective& use = Find(thread, name, mask, parameter, at);
  use.operands[static_cast<std::size_t>(thread.lane)] = &operands;
  use.arrived |= 1u << thread.lane;
  if (use.arrived != mask) {
    machine.Wait([&use, &warp = machine.warp(thread.warp), warp_id = thread.warp] {
      return absl::StrCat(use.name, " of warp ", warp_id, " with mask ", Hex(use.mask), ", where lanes ",
                          Hex(use.arrived), " are and lanes ", Hex(warp.ended), " have ended");
    });
    return;
  }
  const Collective all = use;
  use.mask = 0;
  execute(all);
  ForLanes(mask, [&](int lane) {
    if (lane != thread.lane) machine.Wake(LaneOf(thread, lane).id);
  });
}

template <typename Operands>
Operands& OperandsOf(const Collective& use, int lane) {
  return *static_cast<Operands*>(use.operands[static_cast<std::size_t>(lane)]);
}

struct WordOperands {
  std::uint32_t value = 0, result = 0;
  int argument = 0, width = kLanes;
};

// The lane whose value `lane` receives; `lane` itself if there is none (PTX ISA, shfl.sync).
int ShuffleSource(Shuffle kind, int lane, int argument, int width) {
  const int first = lane & ~(width - 1), end = first + width;
  switch (kind) {
    case Shuffle::kIndex:
      return first + (argument & (width - 1));
    case Shuffle::kUp:
      return lane - argument < first ? lane : lane - argument;
    case Shuffle::kDown:
      return lane + argument >= end ? lane : lane + argument;
    case Shuffle::kXor:
      return (lane ^ argument) >= end ? lane : lane ^ argument;
  }
  return lane;
}

struct MatrixOperands {
  std::uint32_t* registers;
  std::uint32_t address;
};

// The element of an 8 x 8 matrix of 16-bit elements that is half `half` of a lane's register.
struct MatrixElement {
  int row, column;
};
MatrixElement ElementOf(int lane, int half, bool transposed) {
  const MatrixElement element = {lane / 4, lane % 4 * 2 + half};
  return transposed ? MatrixElement{element.column, element.row} : element;
}

// ldmatrix and stmatrix. Lane 8 i + r gives the address of row r of matrix i.
void MoveMatrices(const char* name, std::uint32_t* registers, int matrices, bool transposed, std::uint32_t row_address,
                  Access access, const void* at) {
  MatrixOperands mine = {registers, row_address};
  Together(name, kWholeWarp, matrices * 2 + transposed, mine, at, [&](const Collective& use) {
    Machine& machine = Machine::Get();
    SimThread& self = machine.self();
    std::uint32_t rows[kLanes];
    for (int lane = 0; lane < matrices * 8; ++lane) {
      const std::uint32_t address = rows[lane] = OperandsOf<MatrixOperands>(use, lane).address;
      if (address % kMatrixRowBytes != 0) {
        machine.Stop(Fault::kAlignment, at,
                     absl::StrCat(name, ": the row of lane ", lane, ", ", SharedName(address), ", is not aligned to ",
                                  kMatrixRowBytes, " bytes"));
      }
      if (!InShared(address, kMatrixRowBytes)) {
        machine.Stop(Fault::kOutOfBounds, at, absl::StrCat(name, ": a row at ", SharedName(address)));
      }
      SharedAccess(address, kMatrixRowBytes, access, LaneOf(self, lane), at);
    }
    for (int matrix = 0; matrix < matrices; ++matrix) {
      for (int lane = 0; lane < kLanes; ++lane) {
        for (int half = 0; half < 2; ++half) {
          const MatrixElement element = ElementOf(lane, half, transposed);
          char* const bytes =
              SharedBytes(rows[matrix * 8 + element.row] + static_cast<std::uint32_t>(element.column) * 2);
          char* const reg =
              reinterpret_cast<char*>(OperandsOf<MatrixOperands>(use, lane).registers + matrix) + half * 2;
          std::memcpy(access == Access::kRead ? reg : bytes, access == Access::kRead ? bytes : reg, 2);
        }
      }
    }
  });
}

struct MultiplyOperands {
  float* d;
  const std::uint32_t *a, *b;
};

float Half(std::uint32_t pair, int half) { return std::bit_cast<float>(half == 0 ? pair << 16 : pair & 0xffff0000u); }

// The fragments of mma.m16n8k16 (PTX ISA): lane l holds rows l / 4 and that + 8, columns 2 (l % 4) and the next.
void Multiply(const Collective& use) {
  float a[16][16], b[16][8], d[16][8];
  const auto for_d = [&](const auto& fn) {
    for (int lane = 0; lane < kLanes; ++lane) {
      float* const registers = OperandsOf<MultiplyOperands>(use, lane).d;
      for (int i = 0; i < 4; ++i) fn(registers[i], d[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2]);
    }
  };
  for (int lane = 0; lane < kLanes; ++lane) {
    const auto& operands = OperandsOf<MultiplyOperands>(use, lane);
    const int group = lane / 4, pair = lane % 4 * 2;
    for (int half = 0; half < 2; ++half) {
      for (int i = 0; i < 4; ++i) a[group + i % 2 * 8][pair + half + i / 2 * 8] = Half(operands.a[i], half);
      for (int i = 0; i < 2; ++i) b[pair + half + i * 8][group] = Half(operands.b[i], half);
    }
  }
  for_d([](float& held, float& element) { element = held; });
  for (int i = 0; i < 16; ++i) {
    for (int k = 0; k < 16; ++k) {
      for (int j = 0; j < 8; ++j) d[i][j] += a[i][k] * b[k][j];
    }
  }
  for_d([](float& held, float& element) { held = element; });
}

template <typename T>
T AtomicAddAt(T* address, T value, const void* at) {
  Machine::Get().MayYield();
  OnAccess(reinterpret_cast<std::uintptr_t>(address), sizeof(T), Access::kAtomic, at);
  const T before = *address;
  *address = before + value;
  return before;
}

}  // namespace

void SyncWarp(std::uint32_t mask) {
  WordOperands none;
  Together("__syncwarp", mask, 0, none, __builtin_return_address(0), [](const Collective& use) {
    Machine& machine = Machine::Get();
    const SimThread& self = machine.self();
    Gathering gathering;
    ForLanes(use.mask, [&](int lane) { machine.Release(LaneOf(self, lane), gathering); });
    const Past past = gathering.Take();
    ForLanes(use.mask, [&](int lane) { machine.Acquire(LaneOf(self, lane), past); });
  });
  Machine::Get().MayYield();
}

std::uint32_t ShuffleBits(Shuffle kind, std::uint32_t mask, std::uint32_t value, int argument, int width) {
  WordOperands mine = {.value = value, .argument = argument, .width = width};
  const void* const at = __builtin_return_address(0);
  Together("a shuffle", mask, static_cast<int>(kind), mine, at, [&](const Collective& use) {
    ForLanes(use.mask, [&](int lane) {
      auto& operands = OperandsOf<WordOperands>(use, lane);
      int source = ShuffleSource(kind, lane, operands.argument, operands.width);
      if ((use.mask >> source & 1) == 0) {
        Machine::Get().Report(
            Fault::kWarp, at,
            absl::StrCat("a shuffle: lane ", lane, " reads lane ", source, ", not in mask ", Hex(use.mask)));
        source = lane;
      }
      operands.result = OperandsOf<WordOperands>(use, source).value;
    });
  });
  return mine.result;
}

std::uint32_t VoteBits(Vote kind, std::uint32_t mask, bool predicate) {
  WordOperands mine = {.value = predicate};
  Together("a vote", mask, static_cast<int>(kind), mine, __builtin_return_address(0), [&](const Collective& use) {
    std::uint32_t ballot = 0;
    ForLanes(use.mask, [&](int lane) { ballot |= OperandsOf<WordOperands>(use, lane).value << lane; });
    const std::uint32_t result = kind == Vote::kBallot ? ballot : kind == Vote::kAny ? ballot != 0 : ballot == use.mask;
    ForLanes(use.mask, [&](int lane) { OperandsOf<WordOperands>(use, lane).result = result; });
  });
  return mine.result;
}

std::int32_t AtomicAdd(std::int32_t* address, std::int32_t value) {
  return AtomicAddAt(address, value, __builtin_return_address(0));
}
std::uint32_t AtomicAdd(std::uint32_t* address, std::uint32_t value) {
  return AtomicAddAt(address, value, __builtin_return_address(0));
}

void LoadMatrix(std::uint32_t* registers, int matrices, bool transposed, std::uint32_t row_address) {
  MoveMatrices("ldmatrix", registers, matrices, transposed, row_address, Access::kRead, __builtin_return_address(0));
}

void StoreMatrix(const std::uint32_t* registers, int matrices, bool transposed, std::uint32_t row_address) {
  MoveMatrices("stmatrix", const_cast<std::uint32_t*>(registers), matrices, transposed, row_address, Access::kWrite,
               __builtin_return_address(0));
}

void MultiplyM16N8K16(float* d, const std::uint32_t* a, const std::uint32_t* b) {
  MultiplyOperands mine = {d, a, b};
  Together("mma.sync", kWholeWarp, 0, mine, __builtin_return_address(0), &Multiply);
}

}  // namespace angel_ptm::emulated
