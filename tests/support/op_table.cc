#include "tests/support/op_table.h"

#include <cstdio>
#include <map>
#include <utility>

namespace angel_ptm {
namespace {

std::vector<OpTableRow>& Rows() {
  static std::vector<OpTableRow> rows;
  return rows;
}

// The largest error of one column and where it occurred.
struct WorstError {
  std::optional<double> error;
  std::string shape;

  void Add(const std::optional<double>& other, const std::string& other_shape) {
    if (!other || (error && *other <= *error)) return;
    error = other;
    shape = other_shape;
  }
  std::string Text() const {
    char number[32] = "-";
    if (error) std::snprintf(number, sizeof(number), "%.1e", *error);
    return error && *error > 0 ? std::string(number) + " (" + shape + ")" : number;
  }
};

}  // namespace

void AddToOpTable(OpTableRow row) { Rows().push_back(std::move(row)); }

const std::vector<OpTableRow>& OpTable() { return Rows(); }

void PrintOpTable() {
  struct Line {
    int rows = 0;
    WorstError forward, gradient;
  };
  std::map<std::string, Line> lines;
  for (const OpTableRow& row : OpTable()) {
    Line& line = lines[row.op];
    ++line.rows;
    line.forward.Add(row.forward_error, row.shape);
    line.gradient.Add(row.gradient_error, row.shape);
  }
  for (const auto& [op, line] : lines) {
    std::printf("op_table | %-20s | %2d shapes | forward %-52s | gradient %s\n", op.c_str(), line.rows,
                line.forward.Text().c_str(), line.gradient.Text().c_str());
  }
  std::fflush(stdout);
}

}  // namespace angel_ptm
