// Captions to the states of frozen text encoders, as model.hunyuan_dit reads them (latents.h).
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

// An opened text encoder, whose weights are read when the first states are made.
class TextEncoder {
 public:
  // `path`: a folder with the weights, their config.json and the tokenizer's files; or a pipeline of diffusers, whose
  // folders are text_encoder and tokenizer, or text_encoder_2 and tokenizer_2. Texts are of `length` tokens. Errors:
  // those of the files; a vocabulary that is larger than the embeddings; more tokens than positions.
  // `compute`: what weights are held and states computed in, fp32 or bf16.
  static absl::StatusOr<std::unique_ptr<TextEncoder>> Open(TextEncoderKind kind, const std::string& path,
                                                           int64_t length, const InferenceOptions& options,
                                                           DType compute = DType::kFloat32);
  virtual ~TextEncoder() = default;

  virtual int64_t length() const = 0;
  virtual int64_t width() const = 0;
  // Of a caption in valid UTF-8.
  virtual CaptionPieces Pieces(const std::string& caption) const = 0;
  // Of what states follow from besides the pieces: the weights, the length, and how it is computed.
  virtual absl::StatusOr<uint64_t> Digest() = 0;
  // states[texts.size(), length, width]: each text's are a function of it and of what Digest() is of.
  virtual absl::Status Encode(std::span<const CaptionPieces> texts, std::span<float> states) = 0;
};

struct EncodeCaptionsOptions {
  std::string cache;           // folder of states that were made before; made if it is not there
  std::FILE* notes = nullptr;  // what was cut, of many captions of some, and what was made again
  ReportProgress progress;     // by encoder: captions looked up, texts encoded, captions written; null: to nobody
};

struct EncodedCounts {
  int64_t captions = 0;
  int64_t encoded = 0;  // texts of one of the encoders that the cache did not have
};

// Writes the texts' tensors of a file as latents.h has them, the empty caption's among them, to `output`, in the order
// of `captions`, which are valid UTF-8 and not empty. What stands there is replaced. States come from the cache if it
// has them: one file each, named by the digest of the encoder and the text's pieces, with a checksum; a damaged one is
// made again.
absl::StatusOr<EncodedCounts> EncodeCaptions(TextEncoder& clip, TextEncoder& t5,
                                             const std::vector<std::string>& captions,
                                             const EncodeCaptionsOptions& options, const std::string& output);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TASKS_TEXT_STATES_H_
