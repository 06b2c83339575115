#include "angel_ptm/data/corpus.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <map>
#include <span>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/data/documents.h"
#include "angel_ptm/data/jsonl.h"
#include "angel_ptm/data/utf8.h"
#include "angel_ptm/data/walk_files.h"

namespace angel_ptm {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kTailBytesMin = 1024;
constexpr std::string_view kImageEnding = " image";  // suffix of the kinds of images that KindByMark returns

// The name of the folder that contains `path`, or of `path` itself if it is a folder.
std::string FolderName(const std::string& path) {
  std::error_code error;
  fs::path absolute = fs::absolute(path, error).lexically_normal();
  if (absolute.filename().empty()) absolute = absolute.parent_path();
  if (!fs::is_directory(absolute, error)) absolute = absolute.parent_path();
  return absolute.filename().empty() ? "text" : absolute.filename().string();
}

// Checks that a file to be read as plain text is not JSON Lines, whose quotes and keys would be trained on.
absl::Status CheckNoJsonl(const FileReader& reader) {
  constexpr int64_t kLineBytesMax = 1 << 20;
  std::string head(static_cast<size_t>(std::min(reader.size(), kLineBytesMax)), '\0');
  RETURN_IF_ERROR(reader.ReadAt(0, std::as_writable_bytes(std::span(head))));
  std::string_view line = std::string_view(head).substr(0, head.find('\n'));
  if (line.starts_with(kUtf8Mark)) line.remove_prefix(kUtf8Mark.size());
  const auto texts = TextsOfJsonl(line, reader.path(), 1);
  if (!texts.ok() || texts->empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(reader.path(),
                   ": its first line is an object with a \"text\", but of .json the whole file is read as text as it ",
                   "stands: rename it .jsonl"));
}

// Tracks the inputs and what was found in them, so that no text is read twice: parts of it could be both held out and
// trained on.
class InputFiles {
 public:
  explicit InputFiles(const std::vector<std::string>& inputs) : inputs_(inputs) {}

  struct Found {
    fs::path path;
    std::string label;
    int64_t bytes;
  };
  // Returns the files of input number `index`, in the order of their paths.
  absl::StatusOr<std::vector<Found>> Below(size_t index) {
    index_ = index;
    found_.clear();
    const std::string& input = inputs_[index];
    struct stat info;
    if (stat(input.c_str(), &info) != 0) {
      if (errno == ENOENT) return absl::NotFoundError(absl::StrCat("the input ", input, " does not exist"));
      return FileError("read the input", input, errno);
    }
    if (!S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode)) {
      return absl::InvalidArgumentError(absl::StrCat("the input ", input, " is neither a file nor a folder"));
    }
    if (S_ISDIR(info.st_mode)) {
      RETURN_IF_ERROR(WalkFiles(
          input, [&](const std::string& path, const struct stat& of) { return IsNew(path, of); },
          [&](const std::string& path, const struct stat& of) { return AddFile(path, of); }));
    } else {
      RETURN_IF_ERROR(AddFile(input, info));
    }
    std::sort(found_.begin(), found_.end(), [](const Found& a, const Found& b) { return a.path < b.path; });
    return std::move(found_);
  }

 private:
  // Whether this file or folder is new. If another input contained it, that is an error, because its label and its
  // held-out part would be ambiguous.
  absl::StatusOr<bool> IsNew(const std::string& path, const struct stat& info) {
    const auto [it, is_new] = seen_.emplace(std::pair(info.st_dev, info.st_ino), index_);
    if (is_new || it->second == index_) return is_new;
    return absl::InvalidArgumentError(absl::StrCat("the inputs ", inputs_[it->second], " and ", inputs_[index_],
                                                   " overlap: both hold ", path, ", wanted every text once"));
  }

  absl::Status AddFile(const fs::path& path, const struct stat& info) {
    ASSIGN_OR_RETURN(const bool is_new, IsNew(path.string(), info));
    if (!is_new) return absl::OkStatus();
    const std::string& input = inputs_[index_];
    const fs::path below = path.lexically_relative(input);
    found_.push_back({path, below.has_parent_path() ? below.begin()->string() : FolderName(input), info.st_size});
    return absl::OkStatus();
  }

  const std::vector<std::string>& inputs_;
  std::map<std::pair<dev_t, ino_t>, size_t> seen_;  // by device and inode, the input that contained it
  size_t index_ = 0;                                // the input being walked
  std::vector<Found> found_;
};

}  // namespace

absl::StatusOr<Corpus> Corpus::Open(const std::vector<std::string>& inputs, const CorpusOptions& options) {
  Corpus corpus(options);
  InputFiles files(inputs);
  for (size_t i = 0; i < inputs.size(); ++i) {
    ASSIGN_OR_RETURN(const auto found, files.Below(i));
    for (const InputFiles::Found& file : found) corpus.AddFile(file.path.string(), file.label, file.bytes);
  }
  if (corpus.bytes() == 0) {
    std::string paths;
    for (const std::string& input : inputs) absl::StrAppend(&paths, paths.empty() ? "" : ", ", input);
    return absl::InvalidArgumentError(inputs.empty() ? "no input: name text files or folders"
                                                     : absl::StrCat("the input holds no text: ", paths));
  }
  corpus.Rewind();
  return corpus;
}

void Corpus::AddFile(const std::string& path, const std::string& label, int64_t bytes) {
  const auto it = std::find(labels_.begin(), labels_.end(), label);
  const int32_t index = static_cast<int32_t>(it - labels_.begin());
  if (it == labels_.end()) labels_.push_back(label);
  files_.push_back({path, index, bytes});
}

int64_t Corpus::bytes() const {
  int64_t total = 0;
  for (const TextFile& file : files_) total += file.bytes;
  return total;
}

void Corpus::Rewind() {
  next_file_ = 0;
  open_file_.reset();
  held_out_account_.assign(labels_.size(), 0);
  unbroken_account_.assign(labels_.size(), 0);
  unbroken_files_ = 0;
  counts_.assign(files_.size(), TextCounts());
  not_text_.clear();
}

int64_t Corpus::replaced_sequences() const {
  int64_t total = 0;
  for (const TextCounts& counts : counts_) total += counts.ill_formed;
  return total;
}

std::vector<std::pair<std::string, int64_t>> Corpus::WorstFiles(size_t files_max) const {
  std::vector<std::pair<std::string, int64_t>> worst;
  for (size_t i = 0; i < files_.size(); ++i) {
    if (counts_[i].ill_formed > 0) worst.emplace_back(files_[i].path, counts_[i].ill_formed);
  }
  std::stable_sort(worst.begin(), worst.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  if (worst.size() > files_max) worst.resize(files_max);
  return worst;
}

absl::Status Corpus::NotText() const {
  constexpr size_t kNamedMax = 8;
  std::string files;
  for (size_t i = 0; i < std::min(not_text_.size(), kNamedMax); ++i) {
    absl::StrAppend(&files, i == 0 ? "" : "; ", not_text_[i]);
  }
  if (not_text_.size() > kNamedMax) absl::StrAppend(&files, "; and ", not_text_.size() - kNamedMax, " files more");
  const bool images =
      std::ranges::any_of(not_text_, [](const std::string& file) { return file.ends_with(kImageEnding); });
  return absl::InvalidArgumentError(
      absl::StrCat("the input should be UTF-8 text: convert these files (iconv -f ENCODING -t UTF-8) or take them out",
                   images ? ", or set data.prepare.images.source=FOLDER to prepare images: " : ": ", files));
}

absl::StatusOr<int64_t> Corpus::HeldOutFrom(const FileReader& reader, int32_t label, bool is_jsonl) {
  const int64_t size = reader.size();
  const double share = static_cast<double>(size) * options_.validation_fraction;
  if (share < kTailBytesMin) {
    double& account = held_out_account_[label];
    account += share;
    if (account < static_cast<double>(size)) return size;
    account -= static_cast<double>(size);
    return 0;
  }
  const int64_t start = static_cast<int64_t>(static_cast<double>(size) * (1 - options_.validation_fraction));
  // If the tail is too long to be read at once, look for the border in its beginning.
  std::string tail(static_cast<size_t>(std::min(size - start, options_.batch_bytes)), '\0');
  RETURN_IF_ERROR(reader.ReadAt(start, std::as_writable_bytes(std::span(tail))));
  size_t border = is_jsonl ? tail.find('\n') + 1 : HeldOutStart(tail, static_cast<size_t>((size - start) / 2));
  if (is_jsonl && border == 0) {  // npos + 1: a line of JSON is not divided
    border = static_cast<size_t>(size - start);
  } else if (border == tail.size() && start + static_cast<int64_t>(tail.size()) < size) {
    border = PieceEnd(tail);
  }
  if (start + static_cast<int64_t>(border) == size) {
    // The tail is a single line: a cut would put its beginning into training. Hold out the nearest number of whole
    // files.
    ++unbroken_files_;
    double& account = unbroken_account_[label];
    account += share;
    if (account < static_cast<double>(size) / 2) return size;
    account -= static_cast<double>(size);
    return 0;
  }
  return start + static_cast<int64_t>(border);
}

absl::Status Corpus::OpenNextFile() {
  const TextFile& file = files_[next_file_];
  ASSIGN_OR_RETURN(FileReader reader, FileReader::Open(file.path));
  std::string head(static_cast<size_t>(std::min(reader.size(), kHeadBytes)), '\0');
  RETURN_IF_ERROR(reader.ReadAt(0, std::as_writable_bytes(std::span(head))));
  if (const std::string kind = KindByMark(head); !kind.empty()) {
    not_text_.push_back(absl::StrCat(file.path, " is ", kind));
    ++next_file_;
    return absl::OkStatus();
  }
  if (file.path.ends_with(".json")) RETURN_IF_ERROR(CheckNoJsonl(reader));
  const int64_t begin = head.starts_with(kUtf8Mark) ? static_cast<int64_t>(kUtf8Mark.size()) : 0;
  const bool is_jsonl = file.path.ends_with(kJsonlEnding);
  ASSIGN_OR_RETURN(const int64_t held_out_from, HeldOutFrom(reader, file.label, is_jsonl));
  open_file_.emplace(OpenFile{std::move(reader), file.label, begin, held_out_from, is_jsonl});
  return absl::OkStatus();
}

// Reads the next `bytes` of the open file, or fewer if the part that ends at `end` continues after them.
absl::Status Corpus::ReadPiece(int64_t bytes, int64_t end, Batch* batch) {
  OpenFile& file = *open_file_;
  std::string text(static_cast<size_t>(bytes), '\0');
  RETURN_IF_ERROR(file.reader.ReadAt(file.at, std::as_writable_bytes(std::span(text))));
  if (file.at + bytes < end) {
    const size_t piece_end = file.is_jsonl ? text.rfind('\n') + 1 : PieceEnd(text);  // npos + 1 is 0
    if (piece_end == 0) {
      return absl::InvalidArgumentError(absl::StrCat(files_[next_file_].path, ", line ", file.line, ": wanted at most ",
                                                     options_.batch_bytes, " bytes in a line of JSON, got more"));
    }
    text.resize(piece_end);
  }
  const bool held_out = file.at >= file.held_out_from;
  TextCounts& counts = counts_[next_file_];
  CountText(text, file.at, &counts);
  file.at += static_cast<int64_t>(text.size());
  if (ValidUtf8Prefix(text) != text.size()) text = ReplaceInvalidUtf8(text, &counts.ill_formed);
  std::vector<std::string> texts;
  if (file.is_jsonl) {
    ASSIGN_OR_RETURN(texts, TextsOfJsonl(text, files_[next_file_].path, file.line));
    file.line += std::count(text.begin(), text.end(), '\n');
    if (texts.empty()) texts.emplace_back();  // a batch without texts would mean the end
  } else {
    texts.push_back(std::move(text));
  }
  for (std::string& one : texts) {
    batch->texts.push_back(std::move(one));
    for (const std::string_view document : SplitDocuments(batch->texts.back(), options_.document_bytes_max)) {
      batch->documents.push_back({document, file.label, held_out});
    }
  }
  return absl::OkStatus();
}

absl::Status Corpus::Next(Batch* batch) {
  batch->documents.clear();
  batch->texts.clear();
  int64_t held = 0;
  while (next_file_ < files_.size()) {
    if (!open_file_) RETURN_IF_ERROR(OpenNextFile());
    if (!open_file_) continue;  // not a text file
    const OpenFile& file = *open_file_;
    if (file.at == file.reader.size()) {
      if (const std::string kind = KindByCounts(counts_[next_file_]); !kind.empty()) {
        not_text_.push_back(absl::StrCat(files_[next_file_].path, " is ", kind));
      }
      open_file_.reset();
      ++next_file_;
      continue;
    }
    const int64_t end = file.at < file.held_out_from ? file.held_out_from : file.reader.size();
    // Depends on this file only: what else is in the batch must not decide where documents are cut.
    const int64_t bytes = std::min(end - file.at, options_.batch_bytes);
    if (held > 0 && held + bytes > options_.batch_bytes) break;
    RETURN_IF_ERROR(ReadPiece(bytes, end, batch));
    held += bytes;
  }
  return held == 0 && !not_text_.empty() ? NotText() : absl::OkStatus();
}

}  // namespace angel_ptm
