#include "angel_ptm/data/corpus.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <set>
#include <span>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/data/documents.h"
#include "angel_ptm/data/utf8.h"

namespace angel_ptm {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kTailBytesMin = 1024;

// The name of the folder that holds `path`, or of `path` itself if that is a folder.
std::string OwnName(const std::string& path) {
  std::error_code error;
  fs::path absolute = fs::absolute(path, error).lexically_normal();
  if (absolute.filename().empty()) absolute = absolute.parent_path();
  if (!fs::is_directory(absolute, error)) absolute = absolute.parent_path();
  return absolute.filename().empty() ? "text" : absolute.filename().string();
}

struct FoundFile {
  fs::path path;
  int64_t bytes;
};

// All visible regular files below `folder`, unsorted, through links to folders too. Every folder once: links may lead
// in circles. They are followed last and in order, so that a folder that is also there by itself keeps its own path.
absl::Status WalkFolder(const std::string& folder, std::vector<FoundFile>* files) {
  std::set<std::pair<dev_t, ino_t>> seen;
  std::deque<std::string> folders = {folder}, links;
  while (!folders.empty() || !links.empty()) {
    std::deque<std::string>& queue = folders.empty() ? links : folders;
    const std::string next = std::move(queue.front());
    queue.pop_front();
    struct stat info;
    if (stat(next.c_str(), &info) != 0) return FileError("read the input", next, errno);
    if (!seen.emplace(info.st_dev, info.st_ino).second) continue;
    ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(next));
    for (const std::string& name : names) {
      if (name.starts_with(".")) continue;
      const fs::path path = fs::path(next) / name;
      if (stat(path.c_str(), &info) != 0) return FileError("read the input", path.string(), errno);
      if (S_ISREG(info.st_mode)) files->push_back({path, info.st_size});
      if (!S_ISDIR(info.st_mode)) continue;
      std::error_code error;
      (fs::is_symlink(path, error) ? links : folders).push_back(path.string());
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Corpus> Corpus::Open(const std::vector<TextInput>& inputs, const CorpusOptions& options) {
  Corpus corpus(options);
  for (const TextInput& input : inputs) RETURN_IF_ERROR(corpus.AddInput(input));
  if (corpus.bytes() == 0) {
    std::string paths;
    for (const TextInput& input : inputs) absl::StrAppend(&paths, paths.empty() ? "" : ", ", input.path);
    return absl::InvalidArgumentError(inputs.empty() ? "no input: name text files or folders"
                                                     : absl::StrCat("the input holds no text: ", paths));
  }
  corpus.Rewind();
  return corpus;
}

absl::Status Corpus::AddInput(const TextInput& input) {
  struct stat info;
  if (stat(input.path.c_str(), &info) != 0) {
    if (errno == ENOENT) return absl::NotFoundError(absl::StrCat("the input ", input.path, " does not exist"));
    return FileError("read the input", input.path, errno);
  }
  if (S_ISREG(info.st_mode)) {
    AddFile(input.path, input.label.empty() ? OwnName(input.path) : input.label, info.st_size);
    return absl::OkStatus();
  }
  if (!S_ISDIR(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat("the input ", input.path, " is neither a file nor a folder"));
  }
  std::vector<FoundFile> files;
  RETURN_IF_ERROR(WalkFolder(input.path, &files));
  std::sort(files.begin(), files.end(), [](const FoundFile& a, const FoundFile& b) { return a.path < b.path; });
  for (const FoundFile& file : files) {
    std::string label = input.label;
    if (label.empty()) {
      const fs::path below = file.path.lexically_relative(input.path);
      label = below.has_parent_path() ? below.begin()->string() : OwnName(input.path);
    }
    AddFile(file.path.string(), label, file.bytes);
  }
  return absl::OkStatus();
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
  replaced_sequences_ = 0;
}

absl::StatusOr<int64_t> Corpus::HeldOutFrom(const FileReader& reader, int32_t label) {
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
  // In a tail that is too long to be read at once, the border is in its beginning.
  std::string tail(static_cast<size_t>(std::min(size - start, options_.batch_bytes)), '\0');
  RETURN_IF_ERROR(reader.ReadAt(start, std::as_writable_bytes(std::span(tail))));
  size_t border = HeldOutStart(tail, static_cast<size_t>((size - start) / 2));
  if (border == tail.size() && start + static_cast<int64_t>(tail.size()) < size) border = PieceEnd(tail);
  return start + static_cast<int64_t>(border);
}

absl::Status Corpus::OpenNextFile() {
  const TextFile& file = files_[next_file_];
  ASSIGN_OR_RETURN(FileReader reader, FileReader::Open(file.path));
  ASSIGN_OR_RETURN(const int64_t held_out_from, HeldOutFrom(reader, file.label));
  open_file_.emplace(OpenFile{std::move(reader), file.label, 0, held_out_from});
  return absl::OkStatus();
}

// The next `bytes` of the open file, less if the part that ends at `end` goes on behind them.
absl::Status Corpus::ReadPiece(int64_t bytes, int64_t end, Batch* batch) {
  OpenFile& file = *open_file_;
  std::string text(static_cast<size_t>(bytes), '\0');
  RETURN_IF_ERROR(file.reader.ReadAt(file.at, std::as_writable_bytes(std::span(text))));
  if (file.at + bytes < end) text.resize(PieceEnd(text));
  const bool held_out = file.at >= file.held_out_from;
  file.at += static_cast<int64_t>(text.size());
  if (ValidUtf8Prefix(text) != text.size()) text = ReplaceInvalidUtf8(text, &replaced_sequences_);
  batch->texts.push_back(std::move(text));
  for (const std::string_view document : SplitDocuments(batch->texts.back(), options_.document_bytes_max)) {
    batch->documents.push_back({document, file.label, held_out});
  }
  return absl::OkStatus();
}

absl::Status Corpus::Next(Batch* batch) {
  batch->documents.clear();
  batch->texts.clear();
  int64_t held = 0;
  while (next_file_ < files_.size()) {
    if (!open_file_) RETURN_IF_ERROR(OpenNextFile());
    const OpenFile& file = *open_file_;
    if (file.at == file.reader.size()) {
      open_file_.reset();
      ++next_file_;
      continue;
    }
    const int64_t end = file.at < file.held_out_from ? file.held_out_from : file.reader.size();
    // A function of the file alone: what else is in the batch must not decide where documents are cut.
    const int64_t bytes = std::min(end - file.at, options_.batch_bytes);
    if (held > 0 && held + bytes > options_.batch_bytes) break;
    RETURN_IF_ERROR(ReadPiece(bytes, end, batch));
    held += bytes;
  }
  return absl::OkStatus();
}

}  // namespace angel_ptm
