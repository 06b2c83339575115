// A tensor's extents, row-major, outermost first. Up to four dimensions are stored inline.
#ifndef ANGEL_PTM_BASE_SHAPE_H_
#define ANGEL_PTM_BASE_SHAPE_H_

#include <cstdint>
#include <initializer_list>
#include <string>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "angel_ptm/base/check.h"

namespace angel_ptm {

class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) : dims_(dims) {}
  // For extents known only at run time, e.g. read from a file.
  Shape(const int64_t* first, const int64_t* last) : dims_(first, last) {}

  int rank() const { return static_cast<int>(dims_.size()); }
  int64_t operator[](int i) const { return dims_[i]; }
  // Number of elements; 1 for a scalar (rank 0). CHECK-fails if the product, taken from left to right, overflows
  // int64_t.
  int64_t elements() const {
    int64_t n = 1;
    for (int64_t d : dims_) APTM_CHECK(!__builtin_mul_overflow(n, d, &n), "too many elements: ", ToString());
    return n;
  }
  // The same shape with another number of rows, shape[0]. The rank must be at least 1.
  Shape WithRows(int64_t rows) const {
    Shape shape = *this;
    shape.dims_[0] = rows;
    return shape;
  }
  std::string ToString() const { return absl::StrCat("[", absl::StrJoin(dims_, ", "), "]"); }

  friend bool operator==(const Shape&, const Shape&) = default;

 private:
  absl::InlinedVector<int64_t, 4> dims_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_BASE_SHAPE_H_
