// Every kernel has a reference: the op table must show that each entry of KernelTable was compared with one.
#include "tests/support/op_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/kernels.h"

namespace angel_ptm {
namespace {

constexpr std::string_view kOps[] = {
#define APTM_OP(Kind, name) #name,
#include "kernels/ops.def"
};
// Ops that are their own gradients, or compute them themselves.
constexpr std::string_view kBothWays[] = {"matmul", "grouped_matmul", "linear_cross_entropy", "weighted_mse",
                                          "hybrid_loss"};

// Ops with a bf16 variant, which has its own row.
constexpr const char* kBf16Ops[] = {
    "embedding", "add_rms_norm", "qk_rope_norm", "swiglu", "gelu",       "router",      "dispatch",
    "combine",   "adamw",        "add",          "silu",   "layer_norm", "gated_add",   "add_rows",
    "norm_rope", "mean_pool",    "weighted_mse", "concat", "split",      "hybrid_loss", "relative_attention",
    "conv2d",    "group_norm"};

// Where the table shows that a kernel was checked: the gradient of an op (<op>_grad...) in the op's row.
struct KernelCheck {
  std::string_view op;
  bool forward, gradient;
};
KernelCheck CheckOf(std::string_view kernel) {
  if (const size_t at = kernel.find("_grad"); at != std::string_view::npos) return {kernel.substr(0, at), false, true};
  return {kernel, true, std::ranges::find(kBothWays, kernel) != std::end(kBothWays)};
}

std::vector<std::string> UncheckedKernels(const std::vector<OpTableRow>& rows) {
  std::vector<std::string> unchecked;
  for (const std::string_view kernel : kOps) {
    const KernelCheck check = CheckOf(kernel);
    bool forward = false, gradient = false;
    for (const OpTableRow& row : rows) {
      if (row.op != check.op) continue;
      forward |= row.forward_error.has_value();
      gradient |= row.gradient_error.has_value();
    }
    if ((check.forward && !forward) || (check.gradient && !gradient)) unchecked.emplace_back(kernel);
  }
  return unchecked;
}

std::vector<std::string> UncheckedBf16Ops(const std::vector<OpTableRow>& rows) {
  std::vector<std::string> unchecked;
  for (const std::string op : kBf16Ops) {
    const auto is_its_row = [&op](const OpTableRow& row) { return row.op == op + " bf16"; };
    if (std::none_of(rows.begin(), rows.end(), is_its_row)) unchecked.push_back(op);
  }
  return unchecked;
}

// After the last test, prints the table. Unless a filter left tests out, fails for kernels that the table does not
// show.
class OpTableEnvironment : public testing::Environment {
 public:
  void TearDown() override {
    PrintOpTable();
    const testing::UnitTest& run = *testing::UnitTest::GetInstance();
    if (run.test_to_run_count() + run.disabled_test_count() < run.total_test_count()) return;
    EXPECT_THAT(UncheckedKernels(OpTable()), testing::IsEmpty()) << "kernels no test compared with a reference";
    EXPECT_THAT(UncheckedBf16Ops(OpTable()), testing::IsEmpty()) << "bf16 ops no test compared with a reference";
  }
};
[[maybe_unused]] const testing::Environment* const kEnvironment =
    testing::AddGlobalTestEnvironment(new OpTableEnvironment);

template <typename Args>
bool IsWhole(const Kernel<Args>& kernel) {
  return kernel.can_run != nullptr && kernel.workspace_bytes != nullptr && kernel.run != nullptr;
}

TEST(OpTableTest, TheHostBackendHasAllOfEveryOp) {
  EXPECT_STREQ(CpuKernels().name, "cpu");
#define APTM_OP(Kind, name) EXPECT_TRUE(IsWhole(CpuKernels().name)) << #name;
#include "kernels/ops.def"
}

TEST(OpTableTest, AnUncheckedKernelIsNamed) {
  std::vector<OpTableRow> rows;
  for (const std::string_view kernel : kOps) {
    const KernelCheck check = CheckOf(kernel);
    OpTableRow row = {std::string(check.op), "any", {}, {}};
    if (check.forward) row.forward_error = 0;
    if (check.gradient) row.gradient_error = 0;
    rows.push_back(row);
  }
  EXPECT_THAT(UncheckedKernels(rows), testing::IsEmpty());
  for (OpTableRow& row : rows) {
    if (row.op == "router") row.gradient_error.reset();
  }
  EXPECT_THAT(UncheckedKernels(rows), testing::ElementsAre("router_grad"));
  std::erase_if(rows, [](const OpTableRow& row) { return row.op == "swiglu"; });
  EXPECT_THAT(UncheckedKernels(rows), testing::ElementsAre("swiglu", "swiglu_grad", "router_grad"));
}

TEST(OpTableTest, AnUncheckedBf16OpIsNamed) {
  std::vector<OpTableRow> rows;
  for (const std::string op : kBf16Ops) rows.push_back({op + (op == "gelu" ? "" : " bf16"), "any", 0, 0});
  EXPECT_THAT(UncheckedBf16Ops(rows), testing::ElementsAre("gelu"));
}

}  // namespace
}  // namespace angel_ptm
