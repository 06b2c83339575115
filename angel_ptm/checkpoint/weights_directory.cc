#include "angel_ptm/checkpoint/weights_directory.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "angel_ptm/base/bfloat16.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/float16.h"
#include "angel_ptm/base/json.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/checkpoint/safetensors.h"

namespace angel_ptm {
namespace {

constexpr int64_t kPieceElements = int64_t{1} << 20;

std::string SingleFile(const std::string& stem) { return stem + ".safetensors"; }
std::string IndexFile(const std::string& stem) { return stem + ".safetensors.index.json"; }

// A tensor of the exported model and where it lies in the units' parameter vectors.
struct ExportedTensor {
  std::string name;
  Shape shape;
  UnitId unit = kNone;
  int64_t begin = 0;  // element in the unit's flat vector
  std::string parameter;
};

// All of the table's exported tensors, in its order; they must tile every parameter.
absl::StatusOr<std::vector<ExportedTensor>> ListTensors(const ParameterTable& table) {
  std::vector<ExportedTensor> list;
  std::set<std::string> names;
  for (const Parameter& parameter : table.parameters) {
    std::vector<ExportedName> stretches = parameter.exported;
    std::sort(stretches.begin(), stretches.end(),
              [](const ExportedName& a, const ExportedName& b) { return a.offset < b.offset; });
    int64_t at = 0;
    for (const ExportedName& e : stretches) {
      if (e.offset != at) {
        return absl::InternalError(absl::StrCat("parameter ", parameter.name, ": exported tensor ", e.name,
                                                " begins at ", e.offset, ", wanted ", at));
      }
      if (!names.insert(e.name).second) {
        return absl::InternalError(
            absl::StrCat("exported tensor ", e.name, " is there twice, the second time in ", parameter.name));
      }
      list.push_back({e.name, e.shape, parameter.unit, parameter.unit_offset + e.offset, parameter.name});
      at += e.shape.elements();
    }
    if (at != parameter.shape.elements()) {
      return absl::InternalError(absl::StrCat("parameter ", parameter.name, " of shape ", parameter.shape.ToString(),
                                              " is exported up to element ", at, " only"));
    }
  }
  return list;
}

absl::Status CheckNames(const std::vector<ExportedTensor>& list, const std::vector<ExportedName>& wanted) {
  std::map<std::string, const ExportedTensor*> got;
  for (const ExportedTensor& exported : list) got[exported.name] = &exported;
  for (const ExportedName& want : wanted) {
    const auto it = got.find(want.name);
    if (it == got.end()) {
      return absl::InvalidArgumentError(absl::StrCat("the model does not export tensor ", want.name));
    }
    if (it->second->shape != want.shape) {
      return absl::InvalidArgumentError(absl::StrCat("the model exports tensor ", want.name, " of shape ",
                                                     it->second->shape.ToString(), ", wanted ", want.shape.ToString()));
    }
    got.erase(it);
  }
  if (!got.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the model exports tensor ", got.begin()->first, ", which the architecture has not"));
  }
  return absl::OkStatus();
}

absl::Status WriteOneFile(const ReadParameters& read, const std::string& path, std::span<const ExportedTensor> list) {
  std::vector<SafetensorsTensor> tensors;
  for (const ExportedTensor& exported : list) tensors.push_back({.name = exported.name, .shape = exported.shape});
  ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::Create(path, tensors, {{"format", "pt"}}));
  std::vector<float> buffer(static_cast<size_t>(kPieceElements));
  for (const ExportedTensor& exported : list) {
    for (int64_t at = 0; at < exported.shape.elements(); at += kPieceElements) {
      const int64_t n = std::min(kPieceElements, exported.shape.elements() - at);
      const std::span<float> piece = std::span(buffer).first(static_cast<size_t>(n));
      RETURN_IF_ERROR(read(exported.unit, exported.begin + at, piece));
      RETURN_IF_ERROR(writer.Append(std::as_bytes(piece)));
    }
  }
  return writer.Finish();
}

// One file, or as many as needed to stay below the size limit, and an index that says what is where.
absl::Status WriteWeights(const ReadParameters& read, const std::string& path, std::span<const ExportedTensor> list,
                          const std::string& stem, int64_t file_bytes_max) {
  std::vector<size_t> begins = {0};
  int64_t total = 0, in_file = 0;
  for (size_t i = 0; i < list.size(); ++i) {
    const int64_t bytes = list[i].shape.elements() * static_cast<int64_t>(sizeof(float));
    if (in_file > 0 && in_file + bytes > file_bytes_max) {
      begins.push_back(i);
      in_file = 0;
    }
    in_file += bytes;
    total += bytes;
  }
  if (begins.size() == 1) return WriteOneFile(read, absl::StrCat(path, "/", SingleFile(stem)), list);
  nlohmann::ordered_json map = nlohmann::ordered_json::object();
  begins.push_back(list.size());
  for (size_t f = 0; f + 1 < begins.size(); ++f) {
    const std::string name = absl::StrFormat("%s-%05d-of-%05d.safetensors", stem, f + 1, begins.size() - 1);
    const std::span<const ExportedTensor> part = list.subspan(begins[f], begins[f + 1] - begins[f]);
    RETURN_IF_ERROR(WriteOneFile(read, absl::StrCat(path, "/", name), part));
    for (const ExportedTensor& exported : part) map[exported.name] = name;
  }
  const nlohmann::ordered_json index = {{"metadata", {{"total_size", total}}}, {"weight_map", std::move(map)}};
  return WriteFile(absl::StrCat(path, "/", IndexFile(stem)), index.dump(2) + "\n");
}

absl::Status WriteDirectory(const ReadParameters& read, std::span<const ExportedTensor> list, const WeightsExport& what,
                            const std::string& path) {
  for (const HuggingFaceFile& file : what.texts) {
    RETURN_IF_ERROR(WriteFile(absl::StrCat(path, "/", file.name), file.text));
  }
  return WriteWeights(read, path, list, what.stem, what.file_bytes_max);
}

// Reads the directory as an importer would and compares every value with the source.
absl::Status CompareWithSource(const ReadParameters& read, const ParameterTable& table, const std::string& stem,
                               const std::string& path) {
  std::vector<float> source;
  ASSIGN_OR_RETURN(const WeightsReader written, WeightsReader::Open(path, stem, table));
  return written.ReadAll([&](UnitId unit, int64_t begin, std::span<const float> values) {
    source.resize(values.size());
    RETURN_IF_ERROR(read(unit, begin, source));
    if (std::memcmp(source.data(), values.data(), values.size_bytes()) == 0) return absl::OkStatus();
    return absl::DataLossError(absl::StrCat(path, " does not read back as its source: ", table.units[unit].name,
                                            ", elements ", begin, " to ", begin + static_cast<int64_t>(values.size())));
  });
}

// Opens the safetensors files of a directory; *file_of has every tensor's file by the tensor's name.
absl::Status OpenWeights(const std::string& path, const std::string& stem,
                         std::vector<std::unique_ptr<SafetensorsReader>>* files,
                         std::map<std::string, const SafetensorsReader*>* file_of) {
  std::set<std::string> names = {SingleFile(stem)};
  const std::string index_path = absl::StrCat(path, "/", IndexFile(stem));
  ASSIGN_OR_RETURN(const bool single, PathExists(absl::StrCat(path, "/", SingleFile(stem))));
  ASSIGN_OR_RETURN(const bool indexed, PathExists(index_path));
  if (!single && indexed) {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(index_path));
    const nlohmann::json index = ParseJson(text);
    if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
      return absl::DataLossError(absl::StrCat(index_path, " has no weight_map"));
    }
    names.clear();
    for (const auto& [tensor, file] : index["weight_map"].items()) {
      if (!file.is_string()) return absl::DataLossError(absl::StrCat(index_path, ": no file name for ", tensor));
      names.insert(file.get<std::string>());
    }
  }
  for (const std::string& name : names) {
    ASSIGN_OR_RETURN(SafetensorsReader reader, SafetensorsReader::Open(absl::StrCat(path, "/", name)));
    files->push_back(std::make_unique<SafetensorsReader>(std::move(reader)));
    for (const SafetensorsTensor& tensor : files->back()->tensors()) {
      if (!file_of->emplace(tensor.name, files->back().get()).second) {
        return absl::DataLossError(absl::StrCat(path, " has tensor ", tensor.name, " twice"));
      }
    }
  }
  return absl::OkStatus();
}

bool HasFloats(const SafetensorsTensor& tensor) {
  return tensor.dtype == DType::kFloat32 || tensor.dtype == DType::kBFloat16 || tensor.dtype == DType::kFloat16;
}

template <typename Narrow>
absl::Status ReadNarrow(const SafetensorsReader& file, const SafetensorsTensor& tensor, int64_t begin,
                        std::span<float> out) {
  std::vector<Narrow> narrow(out.size());
  RETURN_IF_ERROR(
      file.Read(tensor, begin * static_cast<int64_t>(sizeof(Narrow)), std::as_writable_bytes(std::span(narrow))));
  for (size_t i = 0; i < out.size(); ++i) out[i] = ToFloat(narrow[i]);
  return absl::OkStatus();
}

// Elements [begin, begin + out.size()) of a tensor as fp32.
absl::Status ReadAsFloat(const SafetensorsReader& file, const SafetensorsTensor& tensor, int64_t begin,
                         std::span<float> out) {
  if (tensor.dtype == DType::kFloat32) {
    return file.Read(tensor, begin * static_cast<int64_t>(sizeof(float)), std::as_writable_bytes(out));
  }
  if (tensor.dtype == DType::kFloat16) return ReadNarrow<Float16>(file, tensor, begin, out);
  return ReadNarrow<BFloat16>(file, tensor, begin, out);
}

// The name that a rename can give to the new directory: without slashes at its end and, if an empty directory is there
// already, without links and dots.
absl::StatusOr<std::string> ResolveTarget(std::string path) {
  while (path.size() > 1 && (path.ends_with('/') || path.ends_with("/."))) path.pop_back();
  ASSIGN_OR_RETURN(const bool exists, PathExists(path));
  if (!exists) return path;
  std::error_code error;
  const std::string real = std::filesystem::canonical(path, error).string();
  if (error) return FileError("write to", path, error.value());
  ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(real));
  if (names.empty()) return real;
  return absl::AlreadyExistsError(absl::StrCat(path, " exists and is not empty: choose a new directory"));
}

}  // namespace

absl::Status ExportWeights(const ReadParameters& read, const ParameterTable& table, const WeightsExport& what,
                           const std::string& path) {
  ASSIGN_OR_RETURN(const std::vector<ExportedTensor> list, ListTensors(table));
  RETURN_IF_ERROR(CheckNames(list, what.tensors));
  ASSIGN_OR_RETURN(const std::string target, ResolveTarget(path));
  const std::string parent = ParentDirectory(target), temporary = target + ".angel-ptm-export";
  RETURN_IF_ERROR(MakeDirectories(parent));
  if (mkdir(temporary.c_str(), 0777) != 0) {
    if (errno != EEXIST) return FileError("create the directory", temporary, errno);
    return absl::AlreadyExistsError(
        absl::StrCat(temporary, " is in the way, perhaps left by an export that was interrupted: remove it"));
  }
  absl::Status status = WriteDirectory(read, list, what, temporary);
  if (status.ok()) status = CompareWithSource(read, table, what.stem, temporary);
  if (status.ok()) status = SyncDirectory(temporary);
  if (status.ok()) status = RenamePath(temporary, target);
  if (!status.ok()) {
    RemoveTree(temporary).IgnoreError();
    return status;
  }
  status = SyncDirectory(parent);
  if (status.ok()) return status;
  return absl::Status(
      status.code(),
      absl::StrCat(target, " was written and compared, but might not survive a power cut: ", status.message()));
}

struct WeightsReader::Source {
  std::vector<std::unique_ptr<SafetensorsReader>> files;
  std::map<std::string, const SafetensorsReader*> file_of;
  std::vector<ExportedTensor> tensors;  // by unit and place
};

WeightsReader::WeightsReader(std::unique_ptr<Source> source) : source_(std::move(source)) {}
WeightsReader::WeightsReader(WeightsReader&&) noexcept = default;
WeightsReader::~WeightsReader() = default;

absl::StatusOr<WeightsReader> WeightsReader::Open(const std::string& path, const std::string& stem,
                                                  const ParameterTable& table,
                                                  const std::vector<std::string>& ignored) {
  auto source = std::make_unique<Source>();
  ASSIGN_OR_RETURN(source->tensors, ListTensors(table));
  RETURN_IF_ERROR(OpenWeights(path, stem, &source->files, &source->file_of));
  std::set<std::string> wanted;
  for (const ExportedTensor& exported : source->tensors) {
    wanted.insert(exported.name);
    const auto it = source->file_of.find(exported.name);
    if (it == source->file_of.end()) {
      return absl::NotFoundError(
          absl::StrCat(path, " has no tensor ", exported.name, " (for ", exported.parameter, ")"));
    }
    const SafetensorsTensor& tensor = *it->second->Find(exported.name);
    if (tensor.shape != exported.shape || !HasFloats(tensor)) {
      return absl::FailedPreconditionError(absl::StrCat(path, ": tensor ", exported.name, " is ",
                                                        std::string(Name(tensor.dtype)), " ", tensor.shape.ToString(),
                                                        ", wanted F32, BF16 or F16 ", exported.shape.ToString()));
    }
  }
  for (const auto& [name, file] : source->file_of) {
    const auto matches = [&](const std::string& pattern) { return MatchesPattern(name, pattern); };
    if (!wanted.contains(name) && std::ranges::none_of(ignored, matches)) {
      return absl::FailedPreconditionError(absl::StrCat(path, " has a tensor ", name, " that the model has not"));
    }
  }
  std::ranges::stable_sort(source->tensors, {}, [](const ExportedTensor& t) { return std::pair(t.unit, t.begin); });
  return WeightsReader(std::move(source));
}

absl::Status WeightsReader::Read(UnitId unit, int64_t begin, std::span<float> out) const {
  std::ranges::fill(out, 0.0f);
  const int64_t end = begin + static_cast<int64_t>(out.size());
  for (const ExportedTensor& exported : source_->tensors) {
    const int64_t first = std::max(begin, exported.begin);
    const int64_t last = std::min(end, exported.begin + exported.shape.elements());
    if (exported.unit != unit || first >= last) continue;
    const SafetensorsReader& file = *source_->file_of.at(exported.name);
    RETURN_IF_ERROR(ReadAsFloat(file, *file.Find(exported.name), first - exported.begin,
                                out.subspan(static_cast<size_t>(first - begin), static_cast<size_t>(last - first))));
  }
  return absl::OkStatus();
}

absl::Status WeightsReader::ReadAll(const WriteParameters& write) const {
  std::vector<float> buffer(static_cast<size_t>(kPieceElements));
  for (const ExportedTensor& exported : source_->tensors) {
    const SafetensorsReader& file = *source_->file_of.at(exported.name);
    for (int64_t at = 0; at < exported.shape.elements(); at += kPieceElements) {
      const int64_t n = std::min(kPieceElements, exported.shape.elements() - at);
      const std::span<float> piece = std::span(buffer).first(static_cast<size_t>(n));
      RETURN_IF_ERROR(ReadAsFloat(file, *file.Find(exported.name), at, piece));
      RETURN_IF_ERROR(write(exported.unit, exported.begin + at, piece));
    }
  }
  return absl::OkStatus();
}

}  // namespace angel_ptm
