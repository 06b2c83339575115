#include "kernels/cpu/can_run.h"

#include "absl/strings/str_join.h"

namespace angel_ptm {
namespace {

using Operands = std::vector<NamedOperand>;

std::string Names(const Operands& operands) {
  return absl::StrJoin(operands, ", ", [](std::string* out, const NamedOperand& o) { out->append(o.name); });
}

// The first operand that does not fit; null if all do.
const NamedOperand* Misfit(const OperandTypes& types, DType common) {
  const bool known = common == DType::kFloat32 || common == DType::kBFloat16;
  for (const NamedOperand& o : types.same) {
    if (!known || (o.dtype != common && !o.absent)) return &o;
  }
  for (const NamedOperand& o : types.same_or_fp32) {
    if (o.dtype != common && o.dtype != DType::kFloat32) return &o;
  }
  for (const NamedOperand& o : types.fp32) {
    if (o.dtype != DType::kFloat32) return &o;
  }
  return nullptr;
}

}  // namespace

absl::Status Fp32OrBf16(const char* op, const OperandTypes& types) {
  const NamedOperand& first = types.same.front();
  const NamedOperand* const misfit = Misfit(types, first.dtype);
  if (misfit == nullptr) return absl::OkStatus();
  std::string message = absl::StrCat("cpu backend: ", op, " takes ", Names(types.same), " in F32 or ",
                                     types.same.size() > 1 ? "all in BF16" : "in BF16");
  if (!types.same_or_fp32.empty()) absl::StrAppend(&message, "; ", Names(types.same_or_fp32), " likewise or in F32");
  if (!types.fp32.empty()) absl::StrAppend(&message, "; ", Names(types.fp32), " in F32");
  absl::StrAppend(&message, "; got ", misfit->name, " in ", Name(misfit->dtype));
  if (misfit != &first) absl::StrAppend(&message, " beside ", first.name, " in ", Name(first.dtype));
  return absl::InvalidArgumentError(message);
}

}  // namespace angel_ptm
