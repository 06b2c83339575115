#include "angel_ptm/base/dtype.h"

#include "angel_ptm/base/check.h"

namespace angel_ptm {

int64_t SizeOf(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
    case DType::kInt32:
      return 4;
    case DType::kBFloat16:
      return 2;
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
  }
  APTM_CHECK(false, "dtype ", static_cast<int>(dtype));
}

}  // namespace angel_ptm
