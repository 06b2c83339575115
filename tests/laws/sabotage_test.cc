// Sabotage cases of law 1: faults that ParityMatrix::Check, the comparison of offload_parity_test.cc, must find, on
// threads and on MPI. There are three ranks, so that swapping two addends changes a sum.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/forwarding_communicator.h"
#include "optim/adamw.h"
#include "tests/laws/law_worlds.h"

namespace angel_ptm {
namespace {

constexpr int kWorld = 3;

// Delivers what the ranks send to a reduction in the order given by its Manner.
class OwnReduction : public ForwardingCommunicator {
 public:
  enum class Manner { kRight, kReversedRanks, kSwappedLastRanks };

  OwnReduction(Communicator& inner, Manner manner) : ForwardingCommunicator(inner), manner_(manner) {}

  absl::Status AllToAll(std::span<std::byte> dst, const SendBlocks& src, CallTag tag) override {
    RETURN_IF_ERROR(ForwardingCommunicator::AllToAll(dst, src, tag));
    const auto block = [&](int r) {
      return dst.subspan(static_cast<size_t>(r * src.bytes), static_cast<size_t>(src.bytes));
    };
    const auto swap = [&](int a, int b) { std::swap_ranges(block(a).begin(), block(a).end(), block(b).begin()); };
    if (manner_ == Manner::kReversedRanks) swap(0, 2);
    if (manner_ == Manner::kSwappedLastRanks) swap(1, 2);
    return absl::OkStatus();
  }

 private:
  const Manner manner_;
};

std::function<std::unique_ptr<Communicator>(Communicator&)> Reducing(OwnReduction::Manner manner) {
  return [manner](Communicator& inner) { return std::make_unique<OwnReduction>(inner, manner); };
}

// This rank's part of one state of one unit.
StateView ViewOf(const Layout& layout, const Machine& machine, UnitId unit, StateId state) {
  for (const StateView& view : StateViews(layout, machine)) {
    if (view.unit == unit && view.state == state) return view;
  }
  return {};
}

// A fault, as a change of a run of three steps and four micro-batches a rank.
struct Sabotage {
  std::string name;
  PlantFault plant;
  bool replicated = false;  // needs parameters that every rank has
  bool resumed = false;     // affects a run that is saved before step 1 and resumed
};
void PrintTo(const Sabotage& sabotage, std::ostream* os) { *os << sabotage.name; }

// Where and when the faults that change memory occur: on rank 1, after the first micro-batch of the second step.
constexpr UnitId kUnit = 3;
bool Strikes(const Machine& machine, int64_t step, int micro) {
  return machine.communicator->rank() == 1 && step == 1 && micro == 0;
}

void PlantStalePage(TinyRun& run) {
  auto old_page = std::make_shared<std::vector<float>>();
  run.tamper = [old_page](const Graph&, const Layout& layout, const Machine& machine, int64_t step, int micro) {
    if (machine.communicator->rank() != 1 || micro != 0) return;
    const std::span<float> own = ViewOf(layout, machine, kUnit, kParameterState).own_slice();
    const std::span<float> page = own.first(std::min<size_t>(own.size(), layout.page_bytes / 4));
    if (step == 0) old_page->assign(page.begin(), page.end());
    if (step == 1) std::copy(old_page->begin(), old_page->end(), page.begin());
  };
}

void PlantLostGradient(TinyRun& run) {
  run.tamper = [](const Graph&, const Layout& layout, const Machine& machine, int64_t step, int micro) {
    if (!Strikes(machine, step, micro)) return;
    const StateView view = ViewOf(layout, machine, kUnit, kGradientState);
    std::fill(view.own_slice().begin(), view.own_slice().end(), 0.0f);
  };
}

void PlantFlippedBit(TinyRun& run, bool in_a_copy) {
  run.tamper = [in_a_copy](const Graph&, const Layout& layout, const Machine& machine, int64_t step, int micro) {
    if (!Strikes(machine, step, micro)) return;
    const StateView view = ViewOf(layout, machine, kUnit, kParameterState);
    float& value = in_a_copy ? view.stored()[100] : view.own_slice()[100];
    value = std::bit_cast<float>(std::bit_cast<uint32_t>(value) ^ 1u);
  };
}

void PlantZeroMoments(TinyRun& run, StateId moment) {
  run.tamper = [moment](const Graph& graph, const Layout& layout, const Machine& machine, int64_t step, int micro) {
    if (step != 1 || micro != 0) return;
    for (UnitId u = 0; u < static_cast<UnitId>(graph.units().size()); ++u) {
      const StateView view = ViewOf(layout, machine, u, moment);
      std::fill(view.stored().begin(), view.stored().end(), 0.0f);
    }
  };
}

// Step 1's micro-batch `number` is replaced by `by`.
void PlantOtherMicroBatch(TinyRun& run, int number, int by) {
  run.feed = [number, by](int64_t step, int n) { return step == 1 && n == number ? by : n; };
}

std::vector<Sabotage> Faults() {
  using Manner = OwnReduction::Manner;
  return {
      {"ReversedRanks", [](TinyRun& run) { run.wrap = Reducing(Manner::kReversedRanks); }},
      {"SwappedRanks", [](TinyRun& run) { run.wrap = Reducing(Manner::kSwappedLastRanks); }},
      {"StalePage", PlantStalePage},
      {"DroppedMicroBatch", [](TinyRun& run) { PlantOtherMicroBatch(run, 4, 1 << 20); }},
      {"RepeatedMicroBatch", [](TinyRun& run) { PlantOtherMicroBatch(run, 4, 3); }},
      {"SwappedMicroBatches",
       [](TinyRun& run) {
         run.feed = [](int64_t step, int n) { return step == 1 && n % 3 != 1 ? n / 3 * 3 + 2 - n % 3 : n; };
       }},
      {"LostGradient", PlantLostGradient},
      {"FirstMomentNotRestored", [](TinyRun& run) { PlantZeroMoments(run, kMoment1State); }, false,
       /*resumed=*/true},
      {"SecondMomentNotRestored", [](TinyRun& run) { PlantZeroMoments(run, kMoment2State); }, false,
       /*resumed=*/true},
      {"FlippedBit", [](TinyRun& run) { PlantFlippedBit(run, /*in_a_copy=*/false); }},
      {"FlippedBitOfACopy", [](TinyRun& run) { PlantFlippedBit(run, /*in_a_copy=*/true); }, /*replicated=*/true},
  };
}

// The world of three ranks with the most direct transport.
LawWorld ThreeRanks() {
  for (const LawWorld& world : LawWorlds()) {
    if (world.size == kWorld) return world;
  }
  ADD_FAILURE() << "run this under mpirun -np 3";
  return {};
}

// What the comparison says of the fault; "" if it finds nothing. MPI ranks other than 0 always get "not compared".
std::string Finds(const Sabotage& sabotage, Axes axes) {
  axes.accumulation = 4;
  axes.resumed = sabotage.resumed;
  std::string found = "not compared";
  RunInWorld(
      ThreeRanks(),
      [&](ParityMatrix& matrix) {
        const absl::Status status = matrix.Check(axes);
        if (matrix.compares()) found = std::string(status.message());
      },
      sabotage.plant);
  return found;
}

// What the comparison may say of a fault, or a rank that does not compare.
constexpr char kVerdicts[] =
    "^loss of step|^norm of step|^parameters of unit|^moments of unit|^rank [0-9]+'s copy of|^not compared$";

class SabotageTest : public testing::TestWithParam<Sabotage> {};

TEST_P(SabotageTest, IsFound) {
  // Copies of parameters need stages 1 and 2: at stage 0 every rank updates all of them, and at stage 3 there are none.
  // A rank that finds a difference in its own copies ends alone. Threads notice that immediately; MPI ranks do not.
  const bool threads = ThreeRanks().transport == "local";
  std::vector<int> stages = {2, 3};
  if (threads) stages = GetParam().replicated ? std::vector<int>{1, 2} : std::vector<int>{0, 2, 3};
  if (!threads && GetParam().replicated) GTEST_SKIP() << "copies are compared on threads (see above)";
  for (int zero_stage : stages) {
    for (bool moe : {false, true}) {
      const std::string found = Finds(GetParam(), {.moe = moe, .zero_stage = zero_stage, .budget_percent = 60});
      // Another error, such as the planner's, does not count as the comparison's verdict.
      EXPECT_THAT(found, testing::ContainsRegex(kVerdicts)) << "not found at ZeRO stage " << zero_stage;
      std::printf("  ZeRO %d, %s: %s\n", zero_stage, moe ? "MoE" : "dense", found.c_str());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Faults, SabotageTest, testing::ValuesIn(Faults()),
                         [](const auto& test) { return test.param.name; });

class NoSabotageTest : public SabotageTest {};

// The hooks themselves change nothing, the right order imposed by the hook gives the same sums, and resuming is no
// fault.
TEST_P(NoSabotageTest, IsNotFound) {
  for (int zero_stage : {0, 2, 3}) {
    for (bool moe : {false, true}) {
      const std::string found = Finds(GetParam(), {.moe = moe, .zero_stage = zero_stage, .budget_percent = 60});
      EXPECT_TRUE(found.empty() || found == "not compared") << found;
    }
  }
}

std::vector<Sabotage> Controls() {
  const auto hooks = [](TinyRun& run) {
    run.wrap = Reducing(OwnReduction::Manner::kRight);
    run.feed = [](int64_t, int n) { return n; };
    run.tamper = [](const auto&...) {};
  };
  return {{"HooksOnly", hooks}, {"Resumed", hooks, false, /*resumed=*/true}};
}

INSTANTIATE_TEST_SUITE_P(Controls, NoSabotageTest, testing::ValuesIn(Controls()),
                         [](const auto& test) { return test.param.name; });

// The comparison also checks that a case keeps its budget, and that it moves pages where it must.
TEST(BudgetSabotageTest, ABudgetThatIsNotKeptIsFound) {
  const std::string found = Finds({"NoBudget", [](TinyRun& run) { run.device_bytes = 0; }}, {.budget_percent = 35});
  EXPECT_TRUE(found.starts_with("took ") || found == "not compared") << found;
}

TEST(BudgetSabotageTest, ARunThatMovesNothingIsFound) {
  // Recomputation keeps a MoE within 60 % at stage 0 without moving a page, although the case says that it does not
  // recompute.
  const auto recompute_instead = [](TinyRun& run) { run.recompute = true; };
  const std::string found = Finds({"Recomputes", recompute_instead}, {.moe = true, .budget_percent = 99});
  EXPECT_TRUE(found == "nothing moved" || found == "not compared") << found;
}

TEST(BudgetSabotageTest, AHostBudgetThatIsNotKeptIsFound) {
  const auto no_file = [](TinyRun& run) {
    run.host_bytes = 0;
    run.file_tier = false;
  };
  const std::string found = Finds({"NoFile", no_file}, {.budget_percent = 35, .host_percent = 0});
  EXPECT_TRUE(found.ends_with(" host bytes") || found == "not compared") << found;
}

// What the second update wrote to the file is replaced by what the first one wrote there.
TEST(FileSabotageTest, AStalePageIsFound) {
  const auto plant = [](TinyRun& run) {
    const auto old = std::make_shared<std::array<std::vector<std::byte>, kWorld>>();
    run.tamper = [old](const Graph&, const Layout& layout, const Machine& machine, int64_t step, int micro) {
      if (step == 0 || micro != 0) return;
      const StateView view = ViewOf(layout, machine, /*unit=*/1, kMoment1State);
      if (view.data != nullptr) return;
      std::vector<std::byte>& page = (*old)[static_cast<size_t>(machine.communicator->rank())];
      page.resize(8192);
      const absl::Status status =
          step == 1 ? view.ReadBytes(0, page) : view.tier->Write(view.offset, page.data(), 8192);
      EXPECT_TRUE(status.ok()) << status;
    };
  };
  const std::string found = Finds({"StalePage", plant}, {.budget_percent = 35, .host_percent = 0});
  EXPECT_TRUE(found.starts_with("parameters of unit") || found == "not compared") << found;
}

}  // namespace
}  // namespace angel_ptm
