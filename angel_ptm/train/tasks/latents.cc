#include "angel_ptm/train/tasks/latents.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/hash.h"
#include "angel_ptm/data/permutation.h"
#include "angel_ptm/model/patches.h"
#include "angel_ptm/train/tasks/latent_tensors.h"

namespace angel_ptm {
namespace {

constexpr char kModel[] = "model.hunyuan_dit";
// Pixels per latent element and side, for the autoencoder of Hunyuan-DiT.
constexpr int64_t kPixelsOfLatent = 8;

// Row `row` of `rows` rows of equal size.
template <typename T>
std::span<T> RowOf(std::vector<T>& all, int64_t row, int64_t rows) {
  const size_t size = all.size() / static_cast<size_t>(rows);
  return std::span(all).subspan(static_cast<size_t>(row) * size, size);
}

}  // namespace

absl::StatusOr<std::unique_ptr<LatentFile>> LatentFile::Open(const std::string& path, const HunyuanDitShape& shape) {
  ASSIGN_OR_RETURN(SafetensorsReader reader, SafetensorsReader::Open(path));
  auto file = std::unique_ptr<LatentFile>(new LatentFile(std::move(reader), shape));
  const Shape sample = {shape.channels, shape.height, shape.width};
  ASSIGN_OR_RETURN(file->count_, CountSamples(file->file_, "latents", sample, kModel));
  RETURN_IF_ERROR(file->CheckConditions(/*sizes_needed=*/true));
  RETURN_IF_ERROR(file->LookAtLatents());
  return file;
}

absl::StatusOr<std::unique_ptr<LatentFile>> LatentFile::OpenTexts(const std::string& path,
                                                                  const HunyuanDitShape& shape) {
  ASSIGN_OR_RETURN(SafetensorsReader reader, SafetensorsReader::Open(path));
  auto file = std::unique_ptr<LatentFile>(new LatentFile(std::move(reader), shape));
  const Shape sample = {shape.clip_length, shape.clip_hidden_size};
  ASSIGN_OR_RETURN(file->count_, CountSamples(file->file_, "clip", sample, kModel));
  RETURN_IF_ERROR(file->CheckConditions(/*sizes_needed=*/false));
  return file;
}

absl::Status LatentFile::CheckConditions(bool sizes_needed) {
  const int64_t n = count_, c = shape_.clip_length, t = shape_.t5_length;
  RETURN_IF_ERROR(CheckTensor(file_, "clip", DType::kFloat32, {n, c, shape_.clip_hidden_size}, kModel));
  RETURN_IF_ERROR(CheckTensor(file_, "clip_mask", DType::kInt32, {n, c}, kModel));
  RETURN_IF_ERROR(CheckTensor(file_, "t5", DType::kFloat32, {n, t, shape_.t5_hidden_size}, kModel));
  RETURN_IF_ERROR(CheckTensor(file_, "t5_mask", DType::kInt32, {n, t}, kModel));
  RETURN_IF_ERROR(CheckTensor(file_, "empty_clip", DType::kFloat32, {c, shape_.clip_hidden_size}, kModel));
  RETURN_IF_ERROR(CheckTensor(file_, "empty_clip_mask", DType::kInt32, {c}, kModel));
  RETURN_IF_ERROR(CheckTensor(file_, "empty_t5", DType::kFloat32, {t, shape_.t5_hidden_size}, kModel));
  RETURN_IF_ERROR(CheckTensor(file_, "empty_t5_mask", DType::kInt32, {t}, kModel));
  has_sizes_ = sizes_needed || file_.Find("sizes") != nullptr;
  if (shape_.size_and_style && has_sizes_) {
    RETURN_IF_ERROR(CheckTensor(file_, "sizes", DType::kFloat32, {n, kHunyuanSizes}, kModel));
  }
  const SafetensorsTensor* const latents = file_.Find("latents");
  if (latents != nullptr && latents->shape != Shape{n, shape_.channels, shape_.height, shape_.width}) {
    has_sizes_ = false;
  }
  const Shape conditions = {n, shape_.channels, shape_.height, shape_.width};
  if (shape_.control && file_.Find("condition") == nullptr) {
    return absl::NotFoundError(
        absl::StrCat(path(), " has no tensor condition, wanted F32 or BF16 ", conditions.ToString(),
                     " for model.hunyuan_dit.control: what the samples' poses or edges are as latents"));
  }
  if (shape_.control) RETURN_IF_ERROR(CheckTensor(file_, "condition", DType::kFloat32, conditions, kModel));
  // For one sample.
  scratch_elements_ = std::max({shape_.channels * shape_.height * shape_.width, c * shape_.clip_hidden_size,
                                t * shape_.t5_hidden_size, kHunyuanSizes});
  return absl::OkStatus();
}

absl::Status LatentFile::LookAtLatents() {
  std::vector<float> latent(static_cast<size_t>(shape_.channels * shape_.height * shape_.width));
  std::vector<BFloat16> scratch(static_cast<size_t>(scratch_elements_));
  Hasher hasher;
  hasher.Mix(file_.header_checksum()).Mix(static_cast<uint64_t>(file_.file_bytes()));
  double square = 0;
  const std::vector<int64_t> rows = SpotChecks(count_);
  for (const int64_t row : rows) {
    RETURN_IF_ERROR(ReadFloats(file_, "latents", row, latent, scratch));
    for (const float value : latent) square += static_cast<double>(value) * static_cast<double>(value);
    hasher.Mix({reinterpret_cast<const char*>(latent.data()), latent.size() * sizeof(float)});
    if (!shape_.control) continue;
    RETURN_IF_ERROR(ReadFloats(file_, "condition", row, latent, scratch));
    hasher.Mix({reinterpret_cast<const char*>(latent.data()), latent.size() * sizeof(float)});
  }
  digest_ = hasher.Digest();
  return CheckScale(path(), square / static_cast<double>(rows.size() * latent.size()));
}

absl::Status LatentFile::ReadMask(const char* name, int64_t row, std::span<int32_t> out) const {
  const int64_t begin = row * static_cast<int64_t>(out.size_bytes());
  return file_.Read(*file_.Find(name), begin, std::as_writable_bytes(out));
}

absl::Status LatentFile::Read(int64_t index, bool empty_clip, bool empty_t5, const LatentSample& sample) const {
  const auto clip_mask = sample.keep.first(static_cast<size_t>(shape_.clip_length));
  const auto t5_mask = sample.keep.subspan(static_cast<size_t>(shape_.clip_length));
  if (!sample.latent.empty()) RETURN_IF_ERROR(ReadFloats(file_, "latents", index, sample.latent, sample.scratch));
  if (!sample.condition.empty())
    RETURN_IF_ERROR(ReadFloats(file_, "condition", index, sample.condition, sample.scratch));
  const int64_t of_clip = empty_clip ? 0 : index, of_t5 = empty_t5 ? 0 : index;
  RETURN_IF_ERROR(ReadFloats(file_, empty_clip ? "empty_clip" : "clip", of_clip, sample.clip, sample.scratch));
  RETURN_IF_ERROR(ReadMask(empty_clip ? "empty_clip_mask" : "clip_mask", of_clip, clip_mask));
  RETURN_IF_ERROR(ReadFloats(file_, empty_t5 ? "empty_t5" : "t5", of_t5, sample.t5, sample.scratch));
  RETURN_IF_ERROR(ReadMask(empty_t5 ? "empty_t5_mask" : "t5_mask", of_t5, t5_mask));
  if (sample.sizes.empty()) return absl::OkStatus();
  if (has_sizes_) return ReadFloats(file_, "sizes", index, sample.sizes, sample.scratch);
  const auto height = static_cast<float>(shape_.height * kPixelsOfLatent);
  const auto width = static_cast<float>(shape_.width * kPixelsOfLatent);
  const float sizes[] = {height, width, height, width, 0, 0};
  std::ranges::copy(sizes, sample.sizes.begin());
  return absl::OkStatus();
}

BucketOrder::BucketOrder(std::vector<int64_t> counts, int64_t global_batch, uint64_t seed)
    : global_batch_(global_batch), seed_(Hasher().Mix("order of buckets").Mix(seed).Digest()) {
  int64_t end = 0;
  for (const int64_t count : counts) ends_.push_back(end += (count + global_batch - 1) / global_batch);
}

BucketOrder::Step BucketOrder::At(int64_t sample) const {
  const int64_t step = sample / global_batch_, steps = ends_.back(), epoch = step / steps;
  const int64_t place = Permutation(steps, seed_, static_cast<uint64_t>(epoch))(step % steps);
  const auto bucket = std::ranges::upper_bound(ends_, place) - ends_.begin();
  const int64_t begin = bucket == 0 ? 0 : ends_[bucket - 1], own = ends_[bucket] - begin;
  return {.bucket = bucket, .first = (epoch * own + place - begin) * global_batch_};
}

int64_t LatentSource::sample_count() const {
  return evaluation() ? std::min(file_.count(), order_.evaluation_samples) : file_.count();
}

int64_t LatentSource::MicroBatchesPerStep(int64_t world) const {
  const int64_t samples = world * order_.micro_batch;
  return (order_.global_batch + samples - 1) / samples;
}

int64_t LatentSource::SampleAt(const MicroBatchPosition& position, int64_t row) const {
  const int64_t in_step = (position.micro * position.world + position.rank) * order_.micro_batch + row;
  const int64_t sample = position.first_sample + in_step;
  if (in_step >= order_.global_batch || (evaluation() && sample >= sample_count())) return -1;
  return sample;
}

int64_t LatentSource::IndexOf(int64_t sample) const {
  const int64_t count = file_.count();
  const uint64_t seed = evaluation() ? 0 : order_.seed;
  if (buckets_ != nullptr) sample = buckets_->At(sample).first + sample % order_.global_batch;
  return Permutation(count, seed, static_cast<uint64_t>(sample / count))(sample % count);
}

HunyuanInputs::HunyuanInputs(const HunyuanDitShape& shape, int64_t batch, int64_t scratch_elements)
    : shape_(shape), batch_(batch), scratch_(static_cast<size_t>(scratch_elements)) {
  latent_.resize(static_cast<size_t>(shape.channels * shape.height * shape.width));
  clip_.resize(static_cast<size_t>(batch * shape.clip_length * shape.clip_hidden_size));
  t5_.resize(static_cast<size_t>(batch * shape.t5_length * shape.t5_hidden_size));
  time_features_.resize(static_cast<size_t>(batch * kHunyuanFeatures));
  keep_.resize(static_cast<size_t>(shape.text_length()));
  text_rows_.resize(static_cast<size_t>(batch * shape.text_length()));
  cos_sin_.resize(static_cast<size_t>(shape.tokens() * shape.head_dim()));
  HunyuanRopeTable(shape, cos_sin_);
  if (shape.control) {
    condition_.resize(latent_.size());
    condition_patches_.resize(static_cast<size_t>(batch) * latent_.size());
  }
  if (!shape.size_and_style) return;
  sizes_.resize(kHunyuanSizes);
  size_features_.resize(static_cast<size_t>(batch * kHunyuanSizes * kHunyuanFeatures));
  style_.resize(static_cast<size_t>(batch));
}

LatentSample HunyuanInputs::Row(int64_t row) {
  return {.latent = latent_,
          .condition = condition_,
          .clip = RowOf(clip_, row, batch_),
          .t5 = RowOf(t5_, row, batch_),
          .keep = keep_,
          .sizes = sizes_,
          .scratch = scratch_};
}

void HunyuanInputs::Finish(int64_t row, double time) {
  HunyuanTextRows(shape_, batch_, row, keep_, RowOf(text_rows_, row, batch_));
  SetTime(row, time);
  if (shape_.control) {
    ToPatches({shape_.channels, shape_.height, shape_.width, shape_.patch_size}, condition_,
              RowOf(condition_patches_, row, batch_));
  }
  for (int64_t i = 0; i < static_cast<int64_t>(sizes_.size()); ++i) {
    TimeFeatures(static_cast<double>(sizes_[i]),
                 RowOf(size_features_, row * kHunyuanSizes + i, batch_ * kHunyuanSizes));
  }
}

void HunyuanInputs::SetTime(int64_t row, double time) { TimeFeatures(time, RowOf(time_features_, row, batch_)); }

void HunyuanInputs::Clear(int64_t row) {
  const LatentSample sample = Row(row);
  std::ranges::fill(sample.latent, 0.0f);
  std::ranges::fill(sample.condition, 0.0f);
  std::ranges::fill(sample.clip, 0.0f);
  std::ranges::fill(sample.t5, 0.0f);
  std::ranges::fill(sample.keep, 0);
  std::ranges::fill(sample.sizes, 0.0f);
  Finish(row, 0);
}

void HunyuanInputs::Write(const Graph& graph, Executor& executor) const {
  const auto write = [&](const char* name, const auto& values) {
    executor.WriteInput(graph.FindTensor(name), values.data());
  };
  write("time_features", time_features_);
  write("cos_sin", cos_sin_);
  write("clip", clip_);
  write("t5", t5_);
  write("text_rows", text_rows_);
  if (shape_.control) write("condition", condition_patches_);
  if (!shape_.size_and_style) return;
  write("size_features", size_features_);
  write("style", style_);
}

}  // namespace angel_ptm
