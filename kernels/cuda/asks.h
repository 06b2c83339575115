// Checks of what CUDA kernels require of their arguments, and the error sentences if a requirement does not hold.
#ifndef ANGEL_PTM_KERNELS_CUDA_ASKS_H_
#define ANGEL_PTM_KERNELS_CUDA_ASKS_H_

#include <cstdint>
#include <initializer_list>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "angel_ptm/base/dtype.h"
#include "kernels/operand.h"

namespace angel_ptm::cuda {

struct Named {
  const char* name;
  DType dtype;
  bool absent;  // optional, without an address, and of the type that an absent operand has by default, fp32

  Named(const char* field, const ConstOperand& o, bool optional = false)
      : name(field), dtype(o.dtype), absent(optional && !o && o.dtype == DType::kFloat32) {}
  Named(const char* field, const Operand& o, bool optional = false)
      : Named(field, ConstOperand{o.data, o.dtype}, optional) {}
};
using Operands = std::initializer_list<Named>;

// The requirements of a kernel. The status names the first one that does not hold.
class Asks {
 public:
  explicit Asks(const char* op) : op_(op) {}

  Asks& All(DType type, const Operands& operands) {
    for (const Named& o : operands) Type(o, o.dtype == type || o.absent, Name(type));
    return *this;
  }
  // All operands are fp32 or all are bf16.
  Asks& Alike(const Operands& operands) {
    const DType type = operands.begin()->dtype;
    for (const Named& o : operands) {
      const bool known = o.dtype == DType::kFloat32 || o.dtype == DType::kBFloat16;
      Type(o, (known && o.dtype == type) || o.absent,
           absl::StrCat("F32 or BF16 like ", operands.begin()->name, " in ", Name(type)));
    }
    return *this;
  }
  // Results: fp32, or also bf16 if `operand` is bf16.
  Asks& ResultOf(const Named& operand, const Operands& results) {
    if (operand.dtype == DType::kBFloat16) return Fp32OrBf16(results);
    return All(DType::kFloat32, results);
  }
  Asks& Fp32OrBf16(const Operands& operands) {
    for (const Named& o : operands) Type(o, o.dtype == DType::kFloat32 || o.dtype == DType::kBFloat16, "F32 or BF16");
    return *this;
  }
  Asks& Range(const char* what, int64_t value, int64_t least, int64_t most) {
    if (value < least || value > most) Fail(absl::StrCat(what, " from ", least, " to ", most, ", got ", value));
    return *this;
  }
  Asks& MultipleOf(const char* what, int64_t value, int64_t unit) {
    if (value % unit != 0) Fail(absl::StrCat(what, " that is a multiple of ", unit, ", got ", value));
    return *this;
  }
  Asks& That(bool holds, const std::string& wanted) {
    if (!holds) Fail(wanted);
    return *this;
  }
  operator absl::Status() const { return status_; }

 private:
  void Type(const Named& o, bool fits, const std::string& wanted) {
    if (!fits) Fail(absl::StrCat(o.name, " in ", wanted, ", got ", Name(o.dtype)));
  }
  void Fail(const std::string& wanted) {
    if (status_.ok()) status_ = absl::InvalidArgumentError(absl::StrCat("cuda backend: ", op_, " takes ", wanted));
  }

  const char* op_;
  absl::Status status_;
};

}  // namespace angel_ptm::cuda

#endif  // ANGEL_PTM_KERNELS_CUDA_ASKS_H_
