// Element types of tensors.
#ifndef ANGEL_PTM_BASE_DTYPE_H_
#define ANGEL_PTM_BASE_DTYPE_H_

#include <cstdint>
#include <string_view>

namespace angel_ptm {

// kFloat16 and kInt64 occur only in files written by other software; no op computes in them.
enum class DType : uint8_t { kFloat32, kBFloat16, kInt32, kUInt8, kFloat16, kInt64 };

// Bytes per element.
int64_t SizeOf(DType dtype);

// The name safetensors uses: "F32", "BF16", "I32", "U8", "F16", "I64".
const char* Name(DType dtype);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_BASE_DTYPE_H_
