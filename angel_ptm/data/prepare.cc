#include "angel_ptm/data/prepare.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <functional>
#include <set>
#include <span>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "angel_ptm/base/checksum.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/random.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/data/bpe_trainer.h"
#include "angel_ptm/data/dataset_folder.h"
#include "angel_ptm/data/token_file.h"

namespace angel_ptm {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// Amount of text whose tokens are in memory at a time. A token may stand for one byte, and vectors grow by doubling.
constexpr int64_t kEncodedTextBytes = 4 << 20;
constexpr int64_t kProcessBytes = 32 << 20;  // the program and its libraries
constexpr int64_t kEncoderBytes = 40 << 20;  // words that an encoder remembers

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Runs body(thread, i) for i in [0, count), each once, on `threads` threads.
void ParallelFor(int threads, int64_t count, const std::function<void(int, int64_t)>& body) {
  std::atomic<int64_t> next = 0;
  const auto work = [&](int thread) {
    for (int64_t i = next++; i < count; i = next++) body(thread, i);
  };
  std::vector<std::jthread> others;
  for (int t = 1; t < threads; ++t) others.emplace_back(work, t);
  work(0);
}

// Otherwise a second run would read what the first one wrote, including the held-out tokens.
absl::Status CheckOutputOutsideInputs(const PrepareOptions& options) {
  const auto canonical = [](const std::string& path, fs::path* result) -> absl::Status {
    std::error_code error;
    const fs::path absolute = fs::absolute(path, error);
    if (!error) *result = fs::weakly_canonical(absolute, error);
    if (error) return FileError("resolve the path", path, error.value());
    // "a/b/" ends in an empty name.
    if (!result->has_filename()) *result = result->parent_path();
    return absl::OkStatus();
  };
  fs::path output;
  RETURN_IF_ERROR(canonical(options.output, &output));
  for (const std::string& input : options.inputs) {
    fs::path folder;
    RETURN_IF_ERROR(canonical(input, &folder));
    const auto [outside, below] = std::mismatch(folder.begin(), folder.end(), output.begin(), output.end());
    const auto hidden = [](const fs::path& name) { return name.string().starts_with("."); };
    if (outside != folder.end() || std::any_of(below, output.end(), hidden)) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "the output folder ", options.output, " should lie outside the input ", input,
        ", which would otherwise be read with what is written to it, got ", output.string(), " in ", folder.string()));
  }
  return absl::OkStatus();
}

absl::Status CheckOptions(const PrepareOptions& options) {
  if (options.tokenizer.empty() && options.vocabulary_size < kVocabularySizeMin) {
    return absl::InvalidArgumentError(absl::StrCat("the vocabulary size should be at least ", kVocabularySizeMin,
                                                   " (2 special tokens and 256 bytes), got ", options.vocabulary_size));
  }
  if (!(options.validation_fraction >= 0 && options.validation_fraction <= 0.5)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the validation fraction should be from 0 to 0.5, got ", options.validation_fraction));
  }
  if (options.document_bytes_max < 1024 || options.tokenizer_text_bytes_max < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("document_bytes_max should be at least 1024 and tokenizer_text_bytes_max at least 1, got ",
                     options.document_bytes_max, " and ", options.tokenizer_text_bytes_max));
  }
  if (options.output.empty()) return absl::InvalidArgumentError("no output folder given");
  return CheckOutputOutsideInputs(options);
}

class Preparation {
 public:
  Preparation(const PrepareOptions& options, Corpus corpus) : options_(options), corpus_(std::move(corpus)) {
    threads_ =
        options.threads > 0 ? options.threads : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    report_.output = options.output;
    report_.files = static_cast<int64_t>(corpus_.files().size());
    report_.vocabulary_asked = options.vocabulary_size;
    report_.manifest.seed = options.seed;
    report_.manifest.validation_fraction = options.validation_fraction;
  }

  absl::StatusOr<PrepareReport> Run() {
    RETURN_IF_ERROR(options_.tokenizer.empty() ? MakeTokenizer() : LoadTokenizer());
    const std::string tokenizer_json = tokenizer_->ToJson();
    report_.manifest.tokenizer_xxh64 = Xxh64(tokenizer_json);
    report_.manifest.vocabulary_size = tokenizer_->vocabulary_size();
    RETURN_IF_ERROR(EncodeAndWrite(tokenizer_json));
    return std::move(report_);
  }

 private:
  absl::Status LoadTokenizer() {
    RETURN_IF_ERROR(FitMemory());
    ASSIGN_OR_RETURN(tokenizer_, Tokenizer::LoadFolder(options_.tokenizer));
    report_.vocabulary_asked = tokenizer_->vocabulary_size();
    return absl::OkStatus();
  }

  absl::Status MakeTokenizer() {
    const Clock::time_point start = Clock::now();
    absl::flat_hash_map<std::string, int64_t> counts;
    RETURN_IF_ERROR(CountWords(&counts));
    BpeTrainerOptions trainer;
    trainer.merges = options_.vocabulary_size - kVocabularySizeMin;
    trainer.exact = options_.vocabulary_is_exact;
    absl::StatusOr<std::vector<BpeMerge>> merges = TrainBpe(counts, trainer);
    if (!merges.ok()) {
      return absl::Status(merges.status().code(), absl::StrCat("no tokenizer of ", options_.vocabulary_size,
                                                               " tokens can be trained: ", merges.status().message()));
    }
    tokenizer_ = Tokenizer::FromMerges(*merges);
    report_.tokenizer_seconds = SecondsSince(start);
    return absl::OkStatus();
  }

  // Memory that every step needs besides the words: a batch of text and its repaired copy, the tokens of a part of it,
  // and an encoder per thread.
  int64_t FixedBytes(int threads) const {
    int64_t largest = 0;
    for (const TextFile& file : corpus_.files()) largest = std::max(largest, file.bytes);
    const int64_t batch = std::min(CorpusOptions().batch_bytes, corpus_.bytes());
    return kProcessBytes + batch + std::min(batch, largest) + 4 * kEncodedTextBytes + threads * kEncoderBytes;
  }

  absl::Status FitMemory() {
    if (options_.memory_bytes_max == 0) return absl::OkStatus();
    while (threads_ > 1 && FixedBytes(threads_) > options_.memory_bytes_max / 2) --threads_;
    return CheckMemory(FixedBytes(threads_), "to read and write text");
  }

  absl::Status CheckMemory(int64_t bytes, const std::string& what) const {
    if (options_.memory_bytes_max == 0 || bytes <= options_.memory_bytes_max) return absl::OkStatus();
    return absl::ResourceExhaustedError(absl::StrCat(
        "preparing needs ", FormatBytes(bytes), " of memory ", what, ", this machine or control group has ",
        FormatBytes(options_.memory_bytes_max), ": raise the limit, or prepare less text"));
  }

  // Checks that memory suffices to combine and merge the words counted so far.
  absl::Status CheckWords(const std::vector<WordCounter>& counters) const {
    int64_t counted = 0, word_bytes = 0;
    for (const WordCounter& counter : counters) {
      counted += counter.memory_bytes();
      word_bytes += counter.word_bytes();
    }
    // Text is in memory while words are counted; then counters are combined two at a time; then words are merged into
    // tokens.
    const int64_t merged = threads_ == 1 ? 0 : counted;
    const int64_t later = kProcessBytes + counted + std::max(merged, BpeTrainingBytes(word_bytes));
    return CheckMemory(std::max(FixedBytes(threads_) + counted, later),
                       absl::StrCat("to train a tokenizer on ", FormatBytes(word_bytes), " of different words"));
  }

  absl::Status CountWords(absl::flat_hash_map<std::string, int64_t>* counts) {
    RETURN_IF_ERROR(FitMemory());
    std::vector<WordCounter> counters(static_cast<size_t>(threads_));
    const double share = static_cast<double>(options_.tokenizer_text_bytes_max) / static_cast<double>(corpus_.bytes());
    int64_t first = 0;  // number of the batch's first document in the corpus
    corpus_.Rewind();
    for (int64_t bytes = 0; true;) {
      TellProgress(options_.progress, "bytes of text for the tokenizer", bytes, corpus_.bytes());
      Corpus::Batch batch;
      RETURN_IF_ERROR(corpus_.Next(&batch));
      if (batch.texts.empty()) break;
      for (const Document& document : batch.documents) bytes += static_cast<int64_t>(document.text.size());
      ParallelFor(threads_, static_cast<int64_t>(batch.documents.size()), [&](int thread, int64_t i) {
        if (batch.documents[i].validation) return;
        // Philox keyed by the document's number, so the sample does not depend on threads or batches.
        const uint64_t number = static_cast<uint64_t>(first + i), seed = options_.seed;
        const auto words = Philox({static_cast<uint32_t>(number), static_cast<uint32_t>(number >> 32), 0, 0},
                                  {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
        if (ToUniform(words[0]) < share) counters[thread].Add(batch.documents[i].text);
      });
      first += static_cast<int64_t>(batch.documents.size());
      RETURN_IF_ERROR(CheckWords(counters));
    }
    for (int t = 1; t < threads_; ++t) {
      counters[0].Merge(counters[t]);
      counters[t] = WordCounter();
    }
    *counts = counters[0].TakeCounts();
    return absl::OkStatus();
  }

  absl::Status EncodeAndWrite(const std::string& tokenizer_json) {
    const Clock::time_point start = Clock::now();
    DatasetManifest& manifest = report_.manifest;
    ASSIGN_OR_RETURN(UnfinishedDataset output, UnfinishedDataset::Create(options_.output));
    const auto create = [&](const char* name) {
      return TokenFileWriter::Create(output.Path(name), manifest.vocabulary_size, tokenizer_->end_of_text_id(),
                                     manifest.tokenizer_xxh64);
    };
    ASSIGN_OR_RETURN(TokenFileWriter train, create("train.tokens"));
    ASSIGN_OR_RETURN(TokenFileWriter validation, create("validation.tokens"));
    validation_counts_.assign(manifest.vocabulary_size, 0);
    RETURN_IF_ERROR(EncodeCorpus(&train, &validation));
    RETURN_IF_ERROR(CheckSplits());
    for (TokenFileWriter* split : {&train, &validation}) {
      RETURN_IF_ERROR(split->Finish());
      RETURN_IF_ERROR(split->Commit());
    }
    const std::string tokenizer_config_json = tokenizer_->ToConfigJson();
    manifest.tokenizer_config_xxh64 = Xxh64(tokenizer_config_json);
    manifest.train_xxh64 = train.header_xxh64();
    manifest.validation_xxh64 = validation.header_xxh64();
    manifest.replaced_sequences = corpus_.replaced_sequences();
    report_.worst_files = corpus_.WorstFiles(5);
    manifest.validation_unigram_entropy = UnigramEntropy(validation_counts_);

    RETURN_IF_ERROR(WriteFile(output.Path("tokenizer.json"), tokenizer_json));
    RETURN_IF_ERROR(WriteFile(output.Path("tokenizer_config.json"), tokenizer_config_json));
    RETURN_IF_ERROR(WriteFile(output.Path("dataset.json"), manifest.ToJson()));
    RETURN_IF_ERROR(output.Publish());
    report_.encoding_seconds = SecondsSince(start);
    return absl::OkStatus();
  }

  absl::Status EncodeCorpus(TokenFileWriter* train, TokenFileWriter* validation) {
    std::vector<Tokenizer::Encoder> encoders;
    for (int t = 0; t < threads_; ++t) encoders.emplace_back(*tokenizer_);
    corpus_.Rewind();
    for (int64_t done = 0; true;) {
      Corpus::Batch batch;
      RETURN_IF_ERROR(corpus_.Next(&batch));
      if (batch.texts.empty()) return absl::OkStatus();
      for (size_t first = 0; first < batch.documents.size();) {
        TellProgress(options_.progress, "bytes of text encoded", done, corpus_.bytes());
        size_t last = first;
        int64_t bytes = 0;
        for (; last < batch.documents.size() && bytes < kEncodedTextBytes; ++last) {
          bytes += static_cast<int64_t>(batch.documents[last].text.size());
        }
        done += bytes;
        RETURN_IF_ERROR(
            EncodeDocuments(std::span(batch.documents).subspan(first, last - first), &encoders, train, validation));
        first = last;
      }
    }
  }

  absl::Status EncodeDocuments(std::span<const Document> documents, std::vector<Tokenizer::Encoder>* encoders,
                               TokenFileWriter* train, TokenFileWriter* validation) {
    std::vector<std::vector<int32_t>> ids(documents.size());
    ParallelFor(threads_, static_cast<int64_t>(documents.size()), [&](int thread, int64_t i) {
      (*encoders)[thread].Encode(documents[i].text, &ids[i]);
      ids[i].push_back(tokenizer_->end_of_text_id());
    });
    for (size_t i = 0; i < documents.size(); ++i) {
      RETURN_IF_ERROR(Append(documents[i], ids[i], (documents[i].validation ? validation : train)));
    }
    return absl::OkStatus();
  }

  // The token that ends a text may also occur inside it, if it is not the one at which documents are divided.
  absl::Status Append(const Document& document, std::span<const int32_t> ids, TokenFileWriter* file) {
    SplitStatistics all = {.bytes = static_cast<int64_t>(document.text.size())};
    std::vector<int32_t> one(tokenizer_->begin_ids().begin(), tokenizer_->begin_ids().end());
    for (const int32_t id : ids) {
      one.push_back(id);
      if (document.validation) ++validation_counts_[id];
      if (id != tokenizer_->end_of_text_id()) continue;
      RETURN_IF_ERROR(file->AppendDocument(one));
      all.Add({.documents = 1, .tokens = static_cast<int64_t>(one.size())});
      one.resize(tokenizer_->begin_ids().size());
    }
    DatasetManifest& manifest = report_.manifest;
    const std::string& label = corpus_.labels()[document.label];
    (document.validation ? manifest.validation : manifest.train).Add(all);
    (document.validation ? manifest.validation_labels : manifest.train_labels)[label].Add(all);
    return absl::OkStatus();
  }

  absl::Status CheckSplits() const {
    if (report_.manifest.train.tokens == 0) {
      return absl::InvalidArgumentError("no text is left for training after holding out the validation text");
    }
    if (options_.validation_fraction > 0 && report_.manifest.validation.tokens == 0) {
      const std::string unbroken =
          corpus_.unbroken_files() == 0
              ? ""
              : absl::StrCat(": ", corpus_.unbroken_files(),
                             " of its files end in one long line, and such files are held out as a whole");
      return absl::InvalidArgumentError(absl::StrCat("the input of ", FormatBytes(corpus_.bytes()),
                                                     " is too small to hold out a fraction of ",
                                                     options_.validation_fraction, " for validation", unbroken,
                                                     "; raise the validation fraction, add text, or set it to 0"));
    }
    return absl::OkStatus();
  }

  const PrepareOptions& options_;
  Corpus corpus_;
  int threads_;  // fewer than requested if memory is short
  std::unique_ptr<Tokenizer> tokenizer_;
  std::vector<int64_t> validation_counts_;
  PrepareReport report_;
};

void AppendRow(const std::string& name, const SplitStatistics& train, const SplitStatistics& validation,
               std::string* text) {
  absl::StrAppendFormat(text, "  %-12s", name);
  for (const SplitStatistics& s : {train, validation}) {
    absl::StrAppendFormat(text, " %9d %10.2f %11d %7.2f", s.documents, static_cast<double>(s.bytes) / 1e6, s.tokens,
                          s.bytes_per_token());
  }
  text->append("\n");
}

}  // namespace

double UnigramEntropy(const std::vector<int64_t>& counts) {
  int64_t total = 0;
  for (int64_t count : counts) total += count;
  double entropy = 0;
  for (int64_t count : counts) {
    if (count == 0) continue;
    const double p = static_cast<double>(count) / static_cast<double>(total);
    entropy -= p * std::log(p);
  }
  return entropy;
}

std::string PrepareReport::ToString() const {
  std::string text = absl::StrFormat("dataset %s: %d files, vocabulary %d\n", output, files, manifest.vocabulary_size);
  absl::StrAppendFormat(&text, "  %-12s %40s %40s\n", "", "------------- training ----------------",
                        "------------ validation ---------------");
  absl::StrAppendFormat(&text, "  %-12s", "label");
  for (int i = 0; i < 2; ++i)
    absl::StrAppendFormat(&text, " %9s %10s %11s %7s", "documents", "MB", "tokens", "B/token");
  text.append("\n");
  std::set<std::string> labels;
  for (const auto& [label, split] : manifest.train_labels) labels.insert(label);
  for (const auto& [label, split] : manifest.validation_labels) labels.insert(label);
  const auto of = [](const std::map<std::string, SplitStatistics>& by_label, const std::string& label) {
    const auto it = by_label.find(label);
    return it == by_label.end() ? SplitStatistics() : it->second;
  };
  for (const std::string& label : labels) {
    AppendRow(label, of(manifest.train_labels, label), of(manifest.validation_labels, label), &text);
  }
  AppendRow("all", manifest.train, manifest.validation, &text);
  if (manifest.validation.tokens > 0) {
    const double entropy = manifest.validation_unigram_entropy;
    absl::StrAppendFormat(&text,
                          "unigram entropy of the validation tokens (under their own frequencies): %.4f nats per "
                          "token, %.3f bits per byte\n",
                          entropy, entropy / std::log(2.0) / manifest.validation.bytes_per_token());
  }
  if (manifest.replaced_sequences > 0) {
    absl::StrAppendFormat(&text, "%d ill-formed UTF-8 sequences were read as U+FFFD, most of them in:\n",
                          manifest.replaced_sequences);
    for (const auto& [path, count] : worst_files) absl::StrAppendFormat(&text, "  %s: %d\n", path, count);
  }
  if (manifest.vocabulary_size < vocabulary_asked) {
    absl::StrAppendFormat(
        &text,
        "the text supports a vocabulary of %d tokens, less than data.prepare.vocabulary_size = %d: the "
        "dataset has %d\n",
        manifest.vocabulary_size, vocabulary_asked, manifest.vocabulary_size);
  }
  absl::StrAppendFormat(&text, "tokenizer %s, encoding %s\n", FormatSeconds(tokenizer_seconds),
                        FormatSeconds(encoding_seconds));
  return text;
}

absl::StatusOr<PrepareReport> Prepare(const PrepareOptions& options) {
  RETURN_IF_ERROR(CheckOptions(options));
  CorpusOptions corpus_options;
  corpus_options.validation_fraction = options.validation_fraction;
  corpus_options.document_bytes_max = options.document_bytes_max;
  ASSIGN_OR_RETURN(Corpus corpus, Corpus::Open(options.inputs, corpus_options));
  return Preparation(options, std::move(corpus)).Run();
}

}  // namespace angel_ptm
