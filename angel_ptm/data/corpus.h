// Splits text files into documents for training and for validation.
#ifndef ANGEL_PTM_DATA_CORPUS_H_
#define ANGEL_PTM_DATA_CORPUS_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/data/encoding.h"

namespace angel_ptm {

struct TextFile {
  std::string path;
  int32_t label;  // index into Corpus::labels
  int64_t bytes;
};

struct Document {
  std::string_view text;  // valid UTF-8
  int32_t label;
  bool validation;
};

struct CorpusOptions {
  double validation_fraction = 0.02;
  int64_t document_bytes_max = 1 << 18;
  int64_t batch_bytes = 64 << 20;  // text held in memory at a time; larger files are read in pieces (PieceEnd)
};

// Reads files in the order of their paths and holds out a part that does not depend on a seed. Of each file the last
// `validation_fraction` is held out, from a document's end or an empty line in the first half of this tail, or else
// from the end of its first line (HeldOutStart). Files whose tail would be below 1 KiB are held out or kept whole:
// every such file adds its fraction to an account of its label, and a file is held out when the account covers it.
// Files whose tail is a single line are treated alike, with an account of their own that must cover half of a file. In
// a .jsonl file each line is an object with a document (jsonl.h) and is held out or kept whole.
class Corpus {
 public:
  // An input is a file, or a folder whose files are read recursively, following links (each file and folder once) and
  // skipping names that start with ".". A file's label, for statistics, is the first folder below its input, or the
  // name of the input's own folder. Errors: an input is missing or unreadable; two inputs overlap; no input has text.
  static absl::StatusOr<Corpus> Open(const std::vector<std::string>& inputs, const CorpusOptions& options);

  // Documents and the texts that they point into.
  struct Batch {
    std::deque<std::string> texts;
    std::vector<Document> documents;
  };
  // Reads the next documents; an empty batch means the end. Errors: a file that cannot be read; a line of .jsonl that
  // has no text or is longer than a batch; a .json file of such lines; at the end, all files that are not UTF-8 text
  // (encoding.h), each with its kind.
  absl::Status Next(Batch* batch);
  // Restarts with the first file.
  void Rewind();

  const std::vector<TextFile>& files() const { return files_; }
  const std::vector<std::string>& labels() const { return labels_; }
  int64_t bytes() const;
  // Number of ill-formed UTF-8 sequences replaced by U+FFFD since Rewind.
  int64_t replaced_sequences() const;
  // The same by file, for at most `files_max` files that have any, most first.
  std::vector<std::pair<std::string, int64_t>> WorstFiles(size_t files_max) const;
  // Number of files since Rewind that could only be held out or kept whole because their tail is one line.
  int64_t unbroken_files() const { return unbroken_files_; }

 private:
  explicit Corpus(const CorpusOptions& options) : options_(options) {}
  void AddFile(const std::string& path, const std::string& label, int64_t bytes);

  struct OpenFile {
    FileReader reader;
    int32_t label;
    int64_t at;             // the next byte to read
    int64_t held_out_from;  // the file's size if nothing is held out
    bool is_jsonl;          // jsonl.h
    int64_t line = 1;       // of .jsonl: the number of the line at `at`
  };
  absl::Status OpenNextFile();
  absl::StatusOr<int64_t> HeldOutFrom(const FileReader& reader, int32_t label, bool is_jsonl);
  absl::Status ReadPiece(int64_t bytes, int64_t end, Batch* batch);
  absl::Status NotText() const;

  CorpusOptions options_;
  std::vector<TextFile> files_;
  std::vector<std::string> labels_;
  size_t next_file_ = 0;
  std::optional<OpenFile> open_file_;
  std::vector<double> held_out_account_;  // bytes by label that small files still owe to validation
  std::vector<double> unbroken_account_;  // the same for files whose tail is one line
  int64_t unbroken_files_ = 0;
  std::vector<TextCounts> counts_;     // by file
  std::vector<std::string> not_text_;  // a phrase for each file that is not UTF-8 text
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_CORPUS_H_
