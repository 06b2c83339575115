// Random latents and text states as files for tests of model.hunyuan_dit.
#ifndef ANGEL_PTM_TESTS_SUPPORT_TINY_LATENTS_H_
#define ANGEL_PTM_TESTS_SUPPORT_TINY_LATENTS_H_

#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "angel_ptm/base/bfloat16.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/checkpoint/safetensors.h"
#include "angel_ptm/model/hunyuan_dit.h"

namespace angel_ptm {

// Writes a file that LatentFile::Open (train/tasks/latents.h) accepts for that shape; `change` may alter the tensors
// before they are written, to make it invalid.
inline absl::Status WriteTinyLatents(const std::string& path, const HunyuanDitShape& shape, int64_t count,
                                     uint32_t seed, float scale = 1,
                                     const std::function<void(std::vector<SafetensorsTensor>*)>& change = nullptr) {
  const int64_t c = shape.clip_length, t = shape.t5_length;
  std::vector<SafetensorsTensor> tensors;
  const auto add = [&](const char* name, DType dtype, Shape dims) {
    tensors.push_back({name, dtype, std::move(dims)});
  };
  add("latents", DType::kFloat32, {count, shape.channels, shape.height, shape.width});
  add("clip", DType::kFloat32, {count, c, shape.clip_hidden_size});
  add("clip_mask", DType::kInt32, {count, c});
  add("t5", DType::kBFloat16, {count, t, shape.t5_hidden_size});
  add("t5_mask", DType::kInt32, {count, t});
  add("empty_clip", DType::kFloat32, {c, shape.clip_hidden_size});
  add("empty_clip_mask", DType::kInt32, {c});
  add("empty_t5", DType::kFloat32, {t, shape.t5_hidden_size});
  add("empty_t5_mask", DType::kInt32, {t});
  if (shape.size_and_style) add("sizes", DType::kFloat32, {count, kHunyuanSizes});
  if (shape.control) add("condition", DType::kFloat32, {count, shape.channels, shape.height, shape.width});
  if (change) change(&tensors);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::Create(path, tensors, {}));
  for (const SafetensorsTensor& tensor : tensors) {
    const auto n = static_cast<size_t>(tensor.shape.elements());
    std::vector<float> values(n);
    std::vector<int32_t> masks(n);
    std::vector<BFloat16> narrow(n);
    for (size_t i = 0; i < n; ++i) {
      values[i] = normal(random);
      masks[i] = random() % 4 == 0 ? 0 : 1;
      narrow[i] = ToBFloat16(values[i]);
    }
    if (tensor.dtype == DType::kInt32) {
      RETURN_IF_ERROR(writer.Append(std::as_bytes(std::span(masks))));
    } else if (tensor.dtype == DType::kBFloat16) {
      RETURN_IF_ERROR(writer.Append(std::as_bytes(std::span(narrow))));
    } else {
      RETURN_IF_ERROR(writer.Append(std::as_bytes(std::span(values))));
    }
  }
  return writer.Finish();
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_SUPPORT_TINY_LATENTS_H_
