// Every kernel has a reference: the op table must show each entry of KernelTable compared with one.
#include "tests/support/op_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>

#include "kernels/kernels.h"

namespace angel_ptm {
namespace {

// Where the table shows that a kernel was checked: in the forward or the gradient column of an op's rows.
enum Columns { kForward = 1, kGradient = 2, kBoth = kForward | kGradient };
struct KernelCheck {
  std::size_t offset;  // in KernelTable
  const char* kernel;
  const char* op;
  Columns columns;
};
constexpr KernelCheck kChecks[] = {
    {offsetof(KernelTable, matmul), "matmul", "matmul", kBoth},  // its gradients are products too
    {offsetof(KernelTable, embedding), "embedding", "embedding", kForward},
    {offsetof(KernelTable, embedding_grad), "embedding_grad", "embedding", kGradient},
    {offsetof(KernelTable, add_rms_norm), "add_rms_norm", "add_rms_norm", kForward},
    {offsetof(KernelTable, add_rms_norm_grad), "add_rms_norm_grad", "add_rms_norm", kGradient},
    {offsetof(KernelTable, rope_table), "rope_table", "rope_table", kForward},  // of positions alone
    {offsetof(KernelTable, qk_rope_norm), "qk_rope_norm", "qk_rope_norm", kForward},
    {offsetof(KernelTable, qk_rope_norm_grad), "qk_rope_norm_grad", "qk_rope_norm", kGradient},
    {offsetof(KernelTable, attention), "attention", "attention", kForward},
    {offsetof(KernelTable, attention_grad), "attention_grad", "attention", kGradient},
    {offsetof(KernelTable, cached_attention), "cached_attention", "cached_attention", kForward},  // decoding only
    {offsetof(KernelTable, swiglu), "swiglu", "swiglu", kForward},
    {offsetof(KernelTable, swiglu_grad), "swiglu_grad", "swiglu", kGradient},
    {offsetof(KernelTable, router), "router", "router", kForward},
    {offsetof(KernelTable, router_grad), "router_grad", "router", kGradient},
    {offsetof(KernelTable, expert_layout), "expert_layout", "expert_layout", kForward},  // integers
    {offsetof(KernelTable, dispatch), "dispatch", "dispatch", kForward},
    {offsetof(KernelTable, dispatch_grad), "dispatch_grad", "dispatch", kGradient},
    {offsetof(KernelTable, grouped_matmul), "grouped_matmul", "grouped_matmul", kBoth},  // dx is one too
    {offsetof(KernelTable, grouped_matmul_grad_weight), "grouped_matmul_grad_weight", "grouped_matmul", kGradient},
    {offsetof(KernelTable, combine), "combine", "combine", kForward},
    {offsetof(KernelTable, combine_grad), "combine_grad", "combine", kGradient},
    {offsetof(KernelTable, linear_cross_entropy), "linear_cross_entropy", "linear_cross_entropy", kBoth},
    {offsetof(KernelTable, square_sum), "square_sum", "square_sum", kForward},  // not differentiated: the update's
    {offsetof(KernelTable, adamw), "adamw", "adamw", kForward},
};

std::vector<std::string> UncheckedKernels(const std::vector<OpTableRow>& rows) {
  std::vector<std::string> unchecked;
  for (const KernelCheck& check : kChecks) {
    int shown = 0;
    for (const OpTableRow& row : rows) {
      if (row.op != check.op) continue;
      shown |= (row.forward_error ? kForward : 0) | (row.gradient_error ? kGradient : 0);
    }
    if ((shown & check.columns) != check.columns) unchecked.emplace_back(check.kernel);
  }
  return unchecked;
}

// After the last test: prints the table and, unless a filter left tests out, fails for kernels it does not show.
class OpTableEnvironment : public testing::Environment {
 public:
  void TearDown() override {
    PrintOpTable();
    const testing::UnitTest& run = *testing::UnitTest::GetInstance();
    if (run.test_to_run_count() + run.disabled_test_count() < run.total_test_count()) return;
    EXPECT_THAT(UncheckedKernels(OpTable()), testing::IsEmpty()) << "kernels no test compared with a reference";
  }
};
[[maybe_unused]] const testing::Environment* const kEnvironment =
    testing::AddGlobalTestEnvironment(new OpTableEnvironment);

TEST(OpTableTest, AsksForEveryKernelOnceAndAllAreSet) {
  const KernelTable& table = CpuKernels();
  EXPECT_STREQ(table.name, "cpu");
  using AnyFunction = void (*)();
  std::size_t next = offsetof(KernelTable, matmul);
  for (const KernelCheck& check : kChecks) {
    EXPECT_EQ(check.offset, next) << check.kernel;
    AnyFunction function = nullptr;
    std::memcpy(&function, reinterpret_cast<const std::byte*>(&table) + check.offset, sizeof(function));
    EXPECT_NE(function, nullptr) << check.kernel;
    next += sizeof(AnyFunction);
  }
  EXPECT_EQ(next, sizeof(KernelTable)) << "a kernel without a line in kChecks";
}

TEST(OpTableTest, AnUncheckedKernelIsNamed) {
  std::vector<OpTableRow> rows;
  for (const KernelCheck& check : kChecks) {
    OpTableRow row = {check.op, "any", {}, {}};
    if (check.columns & kForward) row.forward_error = 0;
    if (check.columns & kGradient) row.gradient_error = 0;
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

}  // namespace
}  // namespace angel_ptm
