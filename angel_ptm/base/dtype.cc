#include "angel_ptm/base/dtype.h"

#include "angel_ptm/base/check.h"

namespace angel_ptm {

int64_t SizeOf(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
    case DType::kInt32:
      return 4;
    case DType::kBFloat16:
    case DType::kFloat16:
      return 2;
    case DType::kInt64:
      return 8;
    case DType::kUInt8:
      return 1;
  }
  APTM_CHECK(false, "dtype ", static_cast<int>(dtype));
}

const char* Name(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "F32";
    case DType::kBFloat16:
      return "BF16";
    case DType::kInt32:
      return "I32";
    case DType::kUInt8:
      return "U8";
    case DType::kFloat16:
      return "F16";
    case DType::kInt64:
      return "I64";
  }
  APTM_CHECK(false, "dtype ", static_cast<int>(dtype));
}

}  // namespace angel_ptm
