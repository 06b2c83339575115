// The table of op errors that the kernel tests print: one line per op and shape, all in one format, so that
// `kernels_test | grep '^op_table'` is the table.
#ifndef ANGEL_PTM_TESTS_SUPPORT_OP_TABLE_H_
#define ANGEL_PTM_TESTS_SUPPORT_OP_TABLE_H_

#include <cstdio>
#include <optional>
#include <string>

namespace angel_ptm {

// Errors are the largest absolute difference over the largest absolute value wanted, of the worst tensor.
struct OpTableRow {
  std::string op, shape;
  std::optional<double> forward_error, gradient_error;
};

inline void PrintOpTableRow(const OpTableRow& row) {
  const auto text = [](const std::optional<double>& error) {
    char buffer[32] = "-";
    if (error) std::snprintf(buffer, sizeof(buffer), "%.1e", *error);
    return std::string(buffer);
  };
  std::printf("op_table | %-26s | %-44s | forward %-8s | gradient %-8s\n", row.op.c_str(), row.shape.c_str(),
              text(row.forward_error).c_str(), text(row.gradient_error).c_str());
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_SUPPORT_OP_TABLE_H_
