#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/bfloat16.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/checkpoint/text_encoders.h"
#include "angel_ptm/train/tasks/text_states.h"

namespace angel_ptm {
namespace {

// Number of texts encoded together. The bits of products depend on their shape, so a smaller batch is filled with
// padding.
constexpr int64_t kTextsTogether = 4;

struct Folders {
  std::string weights, tokenizer;
};

absl::StatusOr<Folders> FoldersOf(TextEncoderKind kind, const std::string& path) {
  const std::string suffix = kind == TextEncoderKind::kClip ? "" : "_2";
  const Folders of_pipeline{absl::StrCat(path, "/text_encoder", suffix), absl::StrCat(path, "/tokenizer", suffix)};
  ASSIGN_OR_RETURN(const bool pipeline, PathExists(of_pipeline.weights + "/config.json"));
  return pipeline ? of_pipeline : Folders{path, path};
}

class FrozenEncoder final : public TextEncoder {
 public:
  FrozenEncoder(Graph graph, WeightsReader weights, std::unique_ptr<const TextPieces> pieces, int64_t length,
                std::vector<int32_t> places, const InferenceOptions& options)
      : graph_(std::move(graph)),
        weights_(std::move(weights)),
        pieces_(std::move(pieces)),
        length_(length),
        width_(graph_.tensor(graph_.FindTensor("states")).shape[1]),
        places_(std::move(places)),
        options_(options) {}

  int64_t length() const override { return length_; }
  int64_t width() const override { return width_; }
  CaptionPieces Pieces(const std::string& caption) const override { return pieces_->Encode(caption, length_); }
  absl::StatusOr<uint64_t> Digest() override;
  absl::Status Encode(std::span<const CaptionPieces> texts, std::span<float> states) override;

 private:
  absl::Status EncodeTogether(std::span<const CaptionPieces> texts, std::span<float> states);

  const Graph graph_;
  const WeightsReader weights_;
  const std::unique_ptr<const TextPieces> pieces_;
  const int64_t length_, width_;
  const std::vector<int32_t> places_;  // of T5's distances; empty for others
  const InferenceOptions options_;
  uint64_t digest_ = 0;  // 0: not known yet
  std::unique_ptr<Inference> inference_;
};

absl::StatusOr<uint64_t> FrozenEncoder::Digest() {
  if (digest_ == 0) {
    ASSIGN_OR_RETURN(digest_, DigestOf(graph_, weights_, options_));
  }
  return digest_;
}

absl::Status FrozenEncoder::Encode(std::span<const CaptionPieces> texts, std::span<float> states) {
  const auto of_text = static_cast<size_t>(length_ * width_);
  APTM_CHECK(states.size() == texts.size() * of_text, states.size(), " for ", texts.size());
  if (inference_ == nullptr) {
    const auto read = [&](UnitId unit, int64_t begin, std::span<float> out) { return weights_.Read(unit, begin, out); };
    ASSIGN_OR_RETURN(inference_,
                     Inference::Create(graph_, read, options_,
                                       absl::StrCat("weights and ", kTextsTogether, " texts of a ", graph_.name)));
  }
  for (size_t at = 0; at < texts.size(); at += kTextsTogether) {
    const size_t n = std::min<size_t>(kTextsTogether, texts.size() - at);
    RETURN_IF_ERROR(EncodeTogether(texts.subspan(at, n), states.subspan(at * of_text, n * of_text)));
  }
  return absl::OkStatus();
}

absl::Status FrozenEncoder::EncodeTogether(std::span<const CaptionPieces> texts, std::span<float> states) {
  const auto tokens_in_all = static_cast<size_t>(kTextsTogether * length_);
  std::vector<int32_t> tokens(tokens_in_all, pieces_->pad_id()), positions(tokens_in_all), types(tokens_in_all, 0);
  std::vector<int32_t> key_counts(kTextsTogether, 1);
  for (size_t i = 0; i < positions.size(); ++i) positions[i] = static_cast<int32_t>(static_cast<int64_t>(i) % length_);
  for (size_t text = 0; text < texts.size(); ++text) {
    std::ranges::copy(texts[text].ids, tokens.begin() + static_cast<int64_t>(text) * length_);
    key_counts[text] = static_cast<int32_t>(texts[text].ids.size());
  }
  Executor& executor = inference_->executor();
  const auto write = [&](const char* name, const std::vector<int32_t>& values) {
    executor.WriteInput(graph_.FindTensor(name), values.data());
  };
  write("tokens", tokens);
  write("key_counts", key_counts);
  if (places_.empty()) {
    write("positions", positions);
    write("token_types", types);
  } else {
    write("places", places_);
  }
  RETURN_IF_ERROR(executor.RunMicroStep(0));
  const TensorId output = graph_.FindTensor("states");
  if (graph_.tensor(output).dtype == DType::kFloat32) {
    std::vector<float> all(tokens_in_all * static_cast<size_t>(width_));
    executor.ReadOutput(output, all.data());
    std::copy_n(all.begin(), states.size(), states.begin());
  } else {
    std::vector<BFloat16> all(tokens_in_all * static_cast<size_t>(width_));
    executor.ReadOutput(output, all.data());
    Widen(states, std::span(all).first(states.size()));
  }
  return absl::OkStatus();
}

absl::Status VocabularyFits(const Folders& folders, const TextPieces& pieces, int64_t rows) {
  if (pieces.vocabulary_size() <= rows) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(folders.tokenizer, ": wanted a vocabulary of at most the ", rows,
                                                    " tokens of ", folders.weights, ", got ",
                                                    pieces.vocabulary_size()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<TextEncoder>> TextEncoder::Open(TextEncoderKind kind, const std::string& path,
                                                               int64_t length, const InferenceOptions& options,
                                                               DType compute) {
  ASSIGN_OR_RETURN(const Folders folders, FoldersOf(kind, path));
  if (kind == TextEncoderKind::kT5) {
    ASSIGN_OR_RETURN(const T5Shape shape, ReadT5Shape(folders.weights));
    Graph graph = BuildT5Encoder(shape, kTextsTogether, length, compute);
    ASSIGN_OR_RETURN(WeightsReader weights, OpenT5(folders.weights, *graph.table));
    ASSIGN_OR_RETURN(std::unique_ptr<const TextPieces> pieces, OpenSentencePieces(folders.tokenizer));
    RETURN_IF_ERROR(VocabularyFits(folders, *pieces, shape.vocab_size));
    return std::make_unique<FrozenEncoder>(std::move(graph), std::move(weights), std::move(pieces), length,
                                           T5DistancePlaces(shape, length), options);
  }
  ASSIGN_OR_RETURN(const BertShape shape, ReadBertShape(folders.weights));
  if (length > shape.max_position_embeddings) {
    return absl::InvalidArgumentError(absl::StrCat(folders.weights, ": wanted texts of at most its ",
                                                   shape.max_position_embeddings, " positions, got ", length));
  }
  Graph graph = BuildBertEncoder(shape, kTextsTogether, length, compute);
  ASSIGN_OR_RETURN(WeightsReader weights, OpenBert(folders.weights, *graph.table));
  ASSIGN_OR_RETURN(std::unique_ptr<const TextPieces> pieces, OpenWordPieces(folders.tokenizer));
  RETURN_IF_ERROR(VocabularyFits(folders, *pieces, shape.vocab_size));
  return std::make_unique<FrozenEncoder>(std::move(graph), std::move(weights), std::move(pieces), length,
                                         std::vector<int32_t>{}, options);
}

}  // namespace angel_ptm
