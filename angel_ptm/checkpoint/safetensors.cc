#include "angel_ptm/checkpoint/safetensors.h"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/checksum.h"
#include "angel_ptm/base/text.h"

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

namespace angel_ptm {
namespace {

constexpr int64_t kLengthBytes = 8;
// The limit of the safetensors package: a larger header would not load there either.
constexpr int64_t kHeaderBytesMax = 100'000'000;
constexpr char kMetadataKey[] = "__metadata__";

bool ParseDType(std::string_view name, DType* dtype) {
  for (DType d : {DType::kFloat32, DType::kBFloat16, DType::kInt32, DType::kUInt8, DType::kFloat16, DType::kInt64}) {
    if (Name(d) == name) {
      *dtype = d;
      return true;
    }
  }
  return false;
}

// JSON quotes for a name from an untrusted file.
std::string Quoted(std::string_view name) {
  return nlohmann::json(std::string(name)).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
}

// The header with its length prefix, padded with spaces to a multiple of 8 bytes.
std::string EncodeHeader(const std::vector<SafetensorsTensor>& tensors, const SafetensorsMetadata& metadata) {
  std::string text = "{";
  std::set<std::string_view> names;
  if (!metadata.empty()) {
    text += absl::StrCat("\"", kMetadataKey,
                         "\":", nlohmann::json(metadata).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
  }
  int64_t offset = 0;
  for (const SafetensorsTensor& t : tensors) {
    APTM_CHECK(t.name != kMetadataKey && names.insert(t.name).second, "tensor name ", t.name);
    const std::string dtype(Name(t.dtype));
    absl::StrAppend(&text, text.size() > 1 ? "," : "", Quoted(t.name), ":{\"dtype\":\"", dtype,
                    "\",\"shape\":", t.shape.ToString(), ",\"data_offsets\":[", offset, ",", offset + t.bytes(), "]}");
    offset += t.bytes();
  }
  text += "}";
  text.append((8 - text.size() % 8) % 8, ' ');
  const uint64_t length = text.size();
  std::string encoded(kLengthBytes, '\0');
  std::memcpy(encoded.data(), &length, kLengthBytes);
  return encoded + text;
}

// An index, length or extent: a JSON integer in [0, 2^62).
bool ParseCount(const nlohmann::json& value, int64_t* count) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() >= uint64_t{1} << 62) return false;
  *count = value.get<int64_t>();
  return true;
}

// Parses one header entry, without its name; begin and end count from the start of the data. Returns what is wrong, or
// "".
std::string ParseEntry(const nlohmann::json& entry, SafetensorsTensor* tensor, int64_t* begin, int64_t* end) {
  if (!entry.is_object()) return "is not an object";
  const auto dtype = entry.find("dtype"), shape = entry.find("shape"), offsets = entry.find("data_offsets");
  if (dtype == entry.end() || !dtype->is_string()) return "has no dtype";
  if (!ParseDType(dtype->get_ref<const std::string&>(), &tensor->dtype)) {
    return absl::StrCat("has dtype ", Quoted(dtype->get_ref<const std::string&>()),
                        ", supported are F32, BF16, F16, I32, I64 and U8");
  }
  if (shape == entry.end() || !shape->is_array()) return "has no shape";
  std::vector<int64_t> dims;
  bool empty = false;
  int64_t bytes = SizeOf(tensor->dtype);
  for (const nlohmann::json& extent : *shape) {
    int64_t dim;
    if (!ParseCount(extent, &dim)) return "has a shape with an invalid extent";
    dims.push_back(dim);
    // A zero makes the tensor empty, but code that multiplies the extents may reach the zero last.
    empty = empty || dim == 0;
    if (dim > 0 && __builtin_mul_overflow(bytes, dim, &bytes)) return "has a shape that is too large";
  }
  if (empty) bytes = 0;
  tensor->shape = Shape(dims.data(), dims.data() + dims.size());
  if (offsets == entry.end() || !offsets->is_array() || offsets->size() != 2 || !ParseCount((*offsets)[0], begin) ||
      !ParseCount((*offsets)[1], end) || *begin > *end) {
    return "has invalid data_offsets";
  }
  if (*end - *begin != bytes) {
    return absl::StrCat("has ", *end - *begin, " bytes, but shape ", tensor->shape.ToString(), " of ",
                        dtype->get_ref<const std::string&>(), " needs ", bytes);
  }
  return "";
}

}  // namespace

absl::StatusOr<SafetensorsWriter> SafetensorsWriter::Create(std::string path,
                                                            const std::vector<SafetensorsTensor>& tensors,
                                                            const SafetensorsMetadata& metadata) {
  const std::string header = EncodeHeader(tensors, metadata);
  if (static_cast<int64_t>(header.size()) - kLengthBytes > kHeaderBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": a header of ", FormatBytes(header.size()),
                                                   " is too large, at most ", FormatBytes(kHeaderBytesMax)));
  }
  int64_t bytes = static_cast<int64_t>(header.size());
  for (const SafetensorsTensor& t : tensors) bytes += t.bytes();
  ASSIGN_OR_RETURN(FileWriter file, FileWriter::Create(std::move(path)));
  RETURN_IF_ERROR(file.Append(header));
  return SafetensorsWriter(std::move(file), bytes, Xxh3(header));
}

absl::Status SafetensorsWriter::Append(std::span<const std::byte> bytes) {
  APTM_CHECK(file_.bytes() + static_cast<int64_t>(bytes.size()) <= file_bytes_, "more bytes than declared");
  return file_.Append(bytes);
}

absl::Status SafetensorsWriter::Finish() {
  APTM_CHECK(file_.bytes() == file_bytes_, file_.bytes(), " of ", file_bytes_, " bytes were written");
  return file_.Finish();
}

absl::StatusOr<SafetensorsReader> SafetensorsReader::Open(std::string path) {
  ASSIGN_OR_RETURN(FileReader file, FileReader::Open(std::move(path)));
  SafetensorsReader reader(std::move(file));
  const auto error = [&](auto... what) {
    return absl::DataLossError(absl::StrCat(reader.path(), " is not a valid safetensors file: ", what...));
  };
  const int64_t size = reader.file_.size();
  if (size < kLengthBytes) return error("it has ", size, " bytes, less than the 8 of its header length");
  uint64_t length = 0;
  RETURN_IF_ERROR(reader.file_.ReadAt(0, std::as_writable_bytes(std::span(&length, 1))));
  if (length > static_cast<uint64_t>(kHeaderBytesMax)) return error("its header length ", length, " is too large");
  if (static_cast<int64_t>(length) > size - kLengthBytes) {
    return error("its header should have ", length, " bytes, but only ", size - kLengthBytes,
                 " follow: it is truncated or damaged");
  }
  std::string header(static_cast<size_t>(kLengthBytes + length), '\0');
  RETURN_IF_ERROR(reader.file_.ReadAt(0, std::as_writable_bytes(std::span(header))));
  reader.header_checksum_ = Xxh3(header);
  RETURN_IF_ERROR(reader.ParseHeader(header));
  return reader;
}

absl::Status SafetensorsReader::ParseHeader(std::string_view header) {
  const auto error = [&](auto... what) {
    return absl::DataLossError(absl::StrCat(path(), " is not a valid safetensors file: ", what...));
  };
  std::set<std::string> keys;
  std::string repeated;
  const nlohmann::json::parser_callback_t note_keys = [&](int depth, nlohmann::json::parse_event_t event,
                                                          nlohmann::json& value) {
    if (event == nlohmann::json::parse_event_t::key && depth == 1 && !keys.insert(value.get<std::string>()).second) {
      repeated = value.get<std::string>();
    }
    return true;
  };
  const nlohmann::json root = nlohmann::json::parse(header.substr(kLengthBytes), note_keys, /*allow_exceptions=*/false);
  if (root.is_discarded() || !root.is_object()) return error("its header is not a JSON object");
  if (!repeated.empty()) return error("tensor ", Quoted(repeated), " is there twice");

  const int64_t data_begin = static_cast<int64_t>(header.size());
  const int64_t data_bytes = file_.size() - data_begin;
  std::vector<std::pair<int64_t, int64_t>> ranges;
  for (const auto& [name, entry] : root.items()) {
    if (name == kMetadataKey) {
      if (!entry.is_object()) return error("__metadata__ is not an object");
      for (const auto& [key, value] : entry.items()) {
        if (!value.is_string()) return error("__metadata__ entry ", Quoted(key), " is not text");
        metadata_[key] = value.get<std::string>();
      }
      continue;
    }
    SafetensorsTensor tensor{.name = name};
    int64_t begin = 0, end = 0;
    if (const std::string wrong = ParseEntry(entry, &tensor, &begin, &end); !wrong.empty()) {
      return error("tensor ", Quoted(name), " ", wrong);
    }
    if (end > data_bytes) {
      return error("tensor ", Quoted(name), " ends at byte ", end, " of the data, but the file holds only ", data_bytes,
                   ": it is truncated or damaged");
    }
    tensor.offset = data_begin + begin;
    tensors_.push_back(std::move(tensor));
  }
  std::stable_sort(tensors_.begin(), tensors_.end(), [](const SafetensorsTensor& a, const SafetensorsTensor& b) {
    return a.offset != b.offset ? a.offset < b.offset : a.bytes() < b.bytes();
  });
  int64_t at = data_begin;
  for (const SafetensorsTensor& t : tensors_) {
    if (t.offset < at) return error("tensor ", Quoted(t.name), " overlaps the one before it");
    if (t.offset > at) return error("there is a gap before tensor ", Quoted(t.name));
    at += t.bytes();
    index_[t.name] = static_cast<size_t>(&t - tensors_.data());
  }
  if (at != file_.size()) return error("it has ", file_.size() - at, " bytes after its last tensor");
  return absl::OkStatus();
}

const SafetensorsTensor* SafetensorsReader::Find(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

absl::Status SafetensorsReader::Read(const SafetensorsTensor& tensor, int64_t begin, std::span<std::byte> out) const {
  APTM_CHECK(begin >= 0 && begin + static_cast<int64_t>(out.size()) <= tensor.bytes(), tensor.name, ": bytes ", begin,
             " + ", out.size(), " of ", tensor.bytes());
  return file_.ReadAt(tensor.offset + begin, out);
}

absl::Status WriteSafetensors(const std::string& path, const std::vector<SafetensorsTensor>& tensors,
                              const SafetensorsMetadata& metadata,
                              const std::function<absl::Status(SafetensorsWriter&)>& append) {
  ASSIGN_OR_RETURN(const AtomicFile claim, AtomicFile::Create(path));  // its lock: nobody else writes `begun`
  const std::string begun = path + ".part";
  RETURN_IF_ERROR(RemoveFile(begun));
  ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::Create(begun, tensors, metadata));
  absl::Status status = append(writer);
  if (status.ok()) status = writer.Finish();
  if (!status.ok()) {
    RemoveFile(begun).IgnoreError();  // the first error is the one to report
    return status;
  }
  return RenamePath(begun, path);
}

absl::Status WriteSharedSafetensors(const std::string& path, const std::vector<SafetensorsTensor>& tensors,
                                    const SafetensorsMetadata& metadata,
                                    const std::function<absl::Status(SafetensorsWriter&)>& append) {
  // Machines that share a cache have processes of the same numbers.
  char host[256] = {};
  (void)gethostname(host, sizeof(host) - 1);
  const std::string own = absl::StrCat(path, ".", host, ".", getpid());
  RETURN_IF_ERROR(WriteSafetensors(own, tensors, metadata, append));
  return RenamePath(own, path);
}

absl::Status JoinSafetensors(const std::vector<std::string>& parts, const std::string& path) {
  std::vector<SafetensorsReader> readers;
  std::vector<SafetensorsTensor> tensors;
  SafetensorsMetadata metadata;
  std::set<std::string> names;
  for (const std::string& part : parts) {
    ASSIGN_OR_RETURN(SafetensorsReader reader, SafetensorsReader::Open(part));
    for (const SafetensorsTensor& tensor : reader.tensors()) {
      if (!names.insert(tensor.name).second) {
        return absl::InvalidArgumentError(absl::StrCat(part, ": tensor ", Quoted(tensor.name), " is in ", parts[0],
                                                       " or another file that it is to be joined with, too"));
      }
      tensors.push_back(tensor);
    }
    metadata.insert(reader.metadata().begin(), reader.metadata().end());
    readers.push_back(std::move(reader));
  }
  return WriteSafetensors(path, tensors, metadata, [&](SafetensorsWriter& writer) -> absl::Status {
    std::vector<std::byte> buffer(size_t{4} << 20);
    for (const SafetensorsReader& reader : readers) {
      for (const SafetensorsTensor& tensor : reader.tensors()) {
        for (int64_t at = 0; at < tensor.bytes();) {
          const int64_t bytes = std::min<int64_t>(tensor.bytes() - at, static_cast<int64_t>(buffer.size()));
          const std::span<std::byte> chunk(buffer.data(), static_cast<size_t>(bytes));
          RETURN_IF_ERROR(reader.Read(tensor, at, chunk));
          RETURN_IF_ERROR(writer.Append(chunk));
          at += bytes;
        }
      }
    }
    return absl::OkStatus();
  });
}

}  // namespace angel_ptm
