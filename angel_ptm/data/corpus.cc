#include "angel_ptm/data/corpus.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/data/tokenizer.h"
#include "angel_ptm/data/utf8.h"

namespace angel_ptm {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kTailBytesMin = 1024;

bool Hidden(const fs::path& path) { return path.filename().string().starts_with("."); }

// The name of the folder that holds `path`, or of `path` itself if that is a folder.
std::string OwnName(const std::string& path) {
  std::error_code error;
  fs::path absolute = fs::absolute(path, error).lexically_normal();
  if (absolute.filename().empty()) absolute = absolute.parent_path();
  if (!fs::is_directory(absolute, error)) absolute = absolute.parent_path();
  return absolute.filename().empty() ? "text" : absolute.filename().string();
}

// All visible regular files below `folder`, unsorted.
absl::Status WalkFolder(const std::string& folder, std::vector<fs::path>* files) {
  std::error_code error;
  fs::recursive_directory_iterator it(folder, error);
  for (; !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
    const bool directory = it->is_directory(error);
    if (Hidden(it->path())) {
      if (directory) it.disable_recursion_pending();
    } else if (!directory && it->is_regular_file(error)) {
      files->push_back(it->path());
    }
    error.clear();
  }
  if (error) return FileError("list the folder", folder, error.value());
  return absl::OkStatus();
}

}  // namespace

size_t ValidationStart(std::string_view text, double fraction) {
  const size_t start = static_cast<size_t>(static_cast<double>(text.size()) * (1 - fraction));
  const size_t middle = start + (text.size() - start) / 2;
  for (const std::string_view border : {kEndOfTextToken, std::string_view("\n\n"), std::string_view("\n")}) {
    const size_t at = text.find(border, start);
    if (at == std::string_view::npos || (at >= middle && border != "\n")) continue;
    const size_t end = at + border.size();
    return border == kEndOfTextToken && text.substr(end).starts_with("\n") ? end + 1 : end;
  }
  return text.size();
}

std::vector<std::string_view> SplitDocuments(std::string_view text, int64_t bytes_max) {
  std::vector<std::string_view> documents;
  const size_t limit = static_cast<size_t>(bytes_max);
  while (!text.empty()) {
    const size_t end = std::min(text.find(kEndOfTextToken), text.size());
    std::string_view document = text.substr(0, end);
    text.remove_prefix(std::min(text.size(), end + kEndOfTextToken.size()));
    if (end > 0 || !text.empty()) {
      if (text.starts_with("\n")) text.remove_prefix(1);
    }
    while (document.size() > limit) {
      const std::string_view head = document.substr(0, limit);
      size_t cut = limit;
      if (const size_t empty_line = head.rfind("\n\n"); empty_line != std::string_view::npos) {
        cut = empty_line + 2;
      } else if (const size_t line = head.rfind('\n'); line != std::string_view::npos) {
        cut = line + 1;
      } else {
        // Not within a character; a character has at most 4 bytes.
        while (cut > 1 && (static_cast<unsigned char>(document[cut]) & 0xC0) == 0x80) --cut;
      }
      documents.push_back(document.substr(0, cut));
      document.remove_prefix(cut);
    }
    if (!document.empty()) documents.push_back(document);
  }
  return documents;
}

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
  std::error_code error;
  const fs::file_status status = fs::status(input.path, error);
  if (!fs::exists(status)) {
    return absl::NotFoundError(absl::StrCat("the input ", input.path, " does not exist"));
  }
  if (!fs::is_directory(status)) return AddFile(input.path, input.label.empty() ? OwnName(input.path) : input.label);
  std::vector<fs::path> files;
  RETURN_IF_ERROR(WalkFolder(input.path, &files));
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) {
    std::string label = input.label;
    if (label.empty()) {
      const fs::path below = file.lexically_relative(input.path);
      label = below.has_parent_path() ? below.begin()->string() : OwnName(input.path);
    }
    RETURN_IF_ERROR(AddFile(file.string(), label));
  }
  return absl::OkStatus();
}

absl::Status Corpus::AddFile(const std::string& path, const std::string& label) {
  std::error_code error;
  const auto bytes = fs::file_size(path, error);
  if (error) return FileError("read the input", path, error.value());
  const auto it = std::find(labels_.begin(), labels_.end(), label);
  const int32_t index = static_cast<int32_t>(it - labels_.begin());
  if (it == labels_.end()) labels_.push_back(label);
  files_.push_back({path, index, static_cast<int64_t>(bytes)});
  return absl::OkStatus();
}

int64_t Corpus::bytes() const {
  int64_t total = 0;
  for (const TextFile& file : files_) total += file.bytes;
  return total;
}

void Corpus::Rewind() {
  next_file_ = 0;
  held_out_account_.assign(labels_.size(), 0);
  replaced_sequences_ = 0;
}

void Corpus::AddDocuments(const TextFile& file, std::string_view text, std::vector<Document>* documents) {
  const double share = static_cast<double>(text.size()) * options_.validation_fraction;
  size_t tail = text.size();
  if (share >= kTailBytesMin) {
    tail = ValidationStart(text, options_.validation_fraction);
  } else if (!text.empty()) {
    double& account = held_out_account_[file.label];
    account += share;
    if (account >= static_cast<double>(text.size())) {
      account -= static_cast<double>(text.size());
      tail = 0;
    }
  }
  for (std::string_view d : SplitDocuments(text.substr(0, tail), options_.document_bytes_max)) {
    documents->push_back({d, file.label, false});
  }
  for (std::string_view d : SplitDocuments(text.substr(tail), options_.document_bytes_max)) {
    documents->push_back({d, file.label, true});
  }
}

absl::Status Corpus::Next(Batch* batch) {
  batch->documents.clear();
  batch->texts.clear();
  int64_t bytes = 0;
  while (next_file_ < files_.size() && (bytes == 0 || bytes + files_[next_file_].bytes <= options_.batch_bytes)) {
    const TextFile& file = files_[next_file_++];
    ASSIGN_OR_RETURN(std::string text, ReadFile(file.path));
    if (ValidUtf8Prefix(text) != text.size()) text = ReplaceInvalidUtf8(text, &replaced_sequences_);
    bytes += static_cast<int64_t>(text.size());
    batch->texts.push_back(std::move(text));
    AddDocuments(file, batch->texts.back(), &batch->documents);
  }
  return absl::OkStatus();
}

}  // namespace angel_ptm
