// Turns captions into states of frozen text encoders, as model.hunyuan_dit reads them (latents.h).
#ifndef ANGEL_PTM_TRAIN_TASKS_TEXT_STATES_H_
#define ANGEL_PTM_TRAIN_TASKS_TEXT_STATES_H_

#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "angel_ptm/base/progress.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/data/pieces/text_pieces.h"
#include "angel_ptm/train/inference.h"

namespace angel_ptm {

enum class TextEncoderKind : uint8_t { kClip, kT5 };

// An opened text encoder. Its weights are read when the first states are made.
class TextEncoder {
 public:
  // `path`: a folder with weights, config.json and the tokenizer's files; or a diffusers pipeline with folders
  // text_encoder and tokenizer, or text_encoder_2 and tokenizer_2. Texts have `length` tokens. `compute`: the type in
  // which weights are held and states computed, fp32 or bf16. Errors: those of the files; a vocabulary larger than the
  // embeddings; more tokens than positions.
  static absl::StatusOr<std::unique_ptr<TextEncoder>> Open(TextEncoderKind kind, const std::string& path,
                                                           int64_t length, const InferenceOptions& options,
                                                           DType compute = DType::kFloat32);
  virtual ~TextEncoder() = default;

  virtual int64_t length() const = 0;
  virtual int64_t width() const = 0;
  // `caption` must be valid UTF-8.
  virtual CaptionPieces Pieces(const std::string& caption) const = 0;
  // Digest of everything besides the pieces that determines the states: the weights, the length, and how it is
  // computed.
  virtual absl::StatusOr<uint64_t> Digest() = 0;
  // Fills states [texts.size(), length, width]. Each text's states depend only on the text and on what Digest() covers.
  virtual absl::Status Encode(std::span<const CaptionPieces> texts, std::span<float> states) = 0;
};

struct EncodeCaptionsOptions {
  std::string cache;           // folder of states that were made before; created if missing
  std::FILE* notes = nullptr;  // receives notes about captions that were cut (of many, some) and what was made again
  ReportProgress progress;     // by encoder: captions looked up, texts encoded, captions written; null: no reports
};

struct EncodedCounts {
  int64_t captions = 0;
  int64_t encoded = 0;  // texts of either encoder that were not in the cache
};

// Writes the text tensors of latents.h, including those of the empty caption, to `output`, in the order of `captions`.
// Captions must be valid UTF-8 and not empty. Replaces an existing file. Takes states from the cache if it has them:
// one file each with a checksum, named by the digest of the encoder and the text's pieces. A damaged one is made again.
absl::StatusOr<EncodedCounts> EncodeCaptions(TextEncoder& clip, TextEncoder& t5,
                                             const std::vector<std::string>& captions,
                                             const EncodeCaptionsOptions& options, const std::string& output);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TASKS_TEXT_STATES_H_
