// The table of op errors. The kernel tests add a row per op and shape and print one line per op at the end of the run,
// so that `kernels_test | grep '^op_table'` is the table.
#ifndef ANGEL_PTM_TESTS_SUPPORT_OP_TABLE_H_
#define ANGEL_PTM_TESTS_SUPPORT_OP_TABLE_H_

#include <optional>
#include <string>
#include <vector>

namespace angel_ptm {

// An error is the largest absolute difference over the largest absolute value wanted, of the worst tensor. An absent
// error means that nothing was compared.
struct OpTableRow {
  std::string op, shape;
  std::optional<double> forward_error, gradient_error;
};

void AddToOpTable(OpTableRow row);

// The rows added so far, in the order of their addition.
const std::vector<OpTableRow>& OpTable();

// Prints to stdout, per op, the number of rows and the largest errors with their shapes.
void PrintOpTable();

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_SUPPORT_OP_TABLE_H_
