#include "angel_ptm/checkpoint/manifest.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/checksum.h"
#include "angel_ptm/base/json.h"

namespace angel_ptm {
namespace {

using nlohmann::ordered_json;

constexpr std::string_view kFormatName = "angel-ptm checkpoint";
constexpr std::string_view kLineBegin = "{\"checksum\": \"", kLineEnd = "\",\n";
constexpr size_t kChecksumDigits = 16;
constexpr size_t kLineBytes = kLineBegin.size() + kChecksumDigits + kLineEnd.size();

// Limits that keep out numbers made to overflow. The checksum does not: whoever changes the numbers can compute it
// again.
constexpr int64_t kChunkElementsMax = int64_t{1} << 28;
constexpr int64_t kWorldSizeMax = std::numeric_limits<int32_t>::max();
constexpr int64_t kElementsMax = int64_t{1} << 56;  // whose bytes still fit in 63 bits

ordered_json ToJson(const Shape& shape) {
  ordered_json dims = ordered_json::array();
  for (int i = 0; i < shape.rank(); ++i) dims.push_back(shape[i]);
  return dims;
}

ordered_json ToJson(const ManifestUnit& unit) {
  ordered_json parameters = ordered_json::array();
  for (const ManifestParameter& p : unit.parameters) {
    parameters.push_back({{"name", p.name}, {"offset", p.offset}, {"shape", ToJson(p.shape)}});
  }
  ordered_json j = {{"name", unit.name},
                    {"elements", unit.elements},
                    {"slice_elements", unit.slice_elements},
                    {"parameters", std::move(parameters)}};
  if (unit.frozen) j["frozen"] = true;
  return j;
}

// What is not a checksum becomes 0, which matches nothing.
uint64_t ParseChecksum(const std::string& text) {
  uint64_t checksum = 0;
  return ParseChecksumText(text, &checksum) ? checksum : 0;
}

// A whole number. Throws for any other value, which get() would convert, e.g. 3e36 into anything. A number from 2^63 on
// becomes negative.
int64_t Whole(const ordered_json& j) { return j.get_ref<const int64_t&>(); }

ManifestUnit UnitFromJson(const ordered_json& j) {
  ManifestUnit unit{.name = j.at("name").get<std::string>(),
                    .elements = Whole(j.at("elements")),
                    .slice_elements = Whole(j.at("slice_elements")),
                    .frozen = j.value("frozen", false)};
  for (const ordered_json& p : j.at("parameters")) {
    std::vector<int64_t> dims;
    for (const ordered_json& dim : p.at("shape")) dims.push_back(Whole(dim));
    unit.parameters.push_back({.name = p.at("name").get<std::string>(),
                               .offset = Whole(p.at("offset")),
                               .shape = Shape(dims.data(), dims.data() + dims.size())});
  }
  return unit;
}

// Throws nlohmann's exceptions where an entry is missing or of another type.
CheckpointManifest FromJson(const ordered_json& j) {
  CheckpointManifest m;
  m.version = static_cast<int>(Whole(j.at("version")));
  m.step = Whole(j.at("step"));
  // A number that is too large for an int must not come out as another number.
  m.world_size = static_cast<int>(std::clamp<int64_t>(Whole(j.at("world_size")), 0, kWorldSizeMax));
  m.chunk_elements = Whole(j.at("chunk_elements"));
  m.graph_name = j.at("graph").at("name").get<std::string>();
  m.graph_hash = ParseChecksum(j.at("graph").at("hash").get<std::string>());
  for (const ordered_json& f : j.at("rank_files")) {
    m.rank_files.push_back({.name = f.at("name").get<std::string>(),
                            .bytes = Whole(f.at("bytes")),
                            .header_checksum = ParseChecksum(f.at("header_checksum").get<std::string>())});
  }
  for (const ordered_json& f : j.at("copied_files")) {
    m.copied_files.push_back({.name = f.at("name").get<std::string>(),
                              .bytes = Whole(f.at("bytes")),
                              .checksum = ParseChecksum(f.at("checksum").get<std::string>())});
  }
  for (const ordered_json& u : j.at("units")) m.units.push_back(UnitFromJson(u));
  m.model_config = j.at("model_config").get<std::string>();
  m.trainer_state = j.at("trainer").dump();
  return m;
}

// What is wrong with the sizes of one unit, or "".
std::string Inconsistency(const ManifestUnit& unit, int world_size) {
  int64_t stored = 0;
  if (unit.elements < 0 || unit.slice_elements < 0 || unit.slice_elements > kElementsMax ||
      __builtin_mul_overflow(unit.slice_elements, world_size, &stored) || unit.elements > stored ||
      unit.elements > kElementsMax) {
    return absl::StrCat("unit ", unit.name, " has ", unit.elements, " elements in ", world_size, " slices of ",
                        unit.slice_elements);
  }
  for (const ManifestParameter& p : unit.parameters) {
    int64_t elements = 1;
    bool fits = p.offset >= 0 && p.offset <= unit.elements;
    for (int i = 0; i < p.shape.rank() && fits; ++i) {
      fits = p.shape[i] >= 0 && !__builtin_mul_overflow(elements, p.shape[i], &elements);
    }
    if (fits && elements <= unit.elements - p.offset) continue;
    return absl::StrCat("parameter ", p.name, " of shape ", p.shape.ToString(), " at ", p.offset, " is not within the ",
                        unit.elements, " elements of unit ", unit.name);
  }
  return "";
}

// What does not fit together in the numbers, or "".
std::string Inconsistency(const CheckpointManifest& m) {
  if (m.world_size < 1 || m.rank_files.size() != static_cast<size_t>(m.world_size)) {
    return absl::StrCat("it lists ", m.rank_files.size(), " files of ", m.world_size, " ranks");
  }
  if (m.chunk_elements < 1 || m.chunk_elements > kChunkElementsMax) {
    return absl::StrCat("chunk_elements should be from 1 to ", kChunkElementsMax, ", got ", m.chunk_elements);
  }
  for (const ManifestUnit& u : m.units) {
    if (const std::string wrong = Inconsistency(u, m.world_size); !wrong.empty()) return wrong;
  }
  return "";
}

}  // namespace

int VersionOf(const CheckpointManifest& manifest) {
  const auto is_frozen = [](const ManifestUnit& unit) { return unit.frozen; };
  const auto is_old = [](const std::string& state) {
    return state == "parameters" || state == "moment1" || state == "moment2";
  };
  const bool first = std::none_of(manifest.units.begin(), manifest.units.end(), is_frozen) &&
                     std::all_of(manifest.states.begin(), manifest.states.end(), is_old);
  return first ? 1 : 2;
}

std::vector<ManifestUnit> DescribeUnits(const ParameterTable& table, int world_size) {
  std::vector<ManifestUnit> units;
  for (const Unit& unit : table.units) {
    ManifestUnit described{.name = unit.name,
                           .elements = unit.elements,
                           .slice_elements = SliceUnit(unit.elements, world_size).slice_elements,
                           .frozen = !unit.trainable};
    for (int32_t index : unit.parameters) {
      const Parameter& p = table.parameters[index];
      described.parameters.push_back({p.name, p.unit_offset, p.shape});
    }
    units.push_back(std::move(described));
  }
  return units;
}

std::string StateTensorName(std::string_view state, std::string_view unit) {
  return std::string(state) + "/" + std::string(unit);
}

std::string EncodeManifest(const CheckpointManifest& m) {
  ordered_json j = {{"format", kFormatName},
                    {"version", m.version},
                    {"step", m.step},
                    {"world_size", m.world_size},
                    {"chunk_elements", m.chunk_elements},
                    {"graph", {{"name", m.graph_name}, {"hash", ChecksumText(m.graph_hash)}}}};
  j["state_classes"] = m.states;
  j["rank_files"] = ordered_json::array();
  for (const ManifestRankFile& f : m.rank_files) {
    j["rank_files"].push_back(
        {{"name", f.name}, {"bytes", f.bytes}, {"header_checksum", ChecksumText(f.header_checksum)}});
  }
  j["copied_files"] = ordered_json::array();
  for (const ManifestCopiedFile& f : m.copied_files) {
    j["copied_files"].push_back({{"name", f.name}, {"bytes", f.bytes}, {"checksum", ChecksumText(f.checksum)}});
  }
  j["units"] = ordered_json::array();
  for (const ManifestUnit& u : m.units) j["units"].push_back(ToJson(u));
  j["model_config"] = m.model_config;
  j["trainer"] = ParseOrderedJson(m.trainer_state);
  APTM_CHECK(j["trainer"].is_object(), "the trainer's state is not a JSON object: ", m.trainer_state);

  const std::string body = j.dump(1, ' ', false, ordered_json::error_handler_t::replace).substr(2) + "\n";
  std::string text(kLineBegin);
  text += ChecksumText(Xxh3(body));
  text += kLineEnd;
  return text + body;
}

absl::StatusOr<CheckpointManifest> DecodeManifest(std::string_view text, std::string_view path) {
  const std::string where(path);
  if (text.size() < kLineBytes || text.substr(0, kLineBegin.size()) != kLineBegin ||
      text.substr(kLineBytes - kLineEnd.size(), kLineEnd.size()) != kLineEnd) {
    return absl::DataLossError(absl::StrCat(where, " is damaged: it does not begin with a checksum"));
  }
  const std::string_view body = text.substr(kLineBytes);
  const std::string wanted(text.substr(kLineBegin.size(), kChecksumDigits));
  if (const std::string got = ChecksumText(Xxh3(body)); got != wanted) {
    return absl::DataLossError(
        absl::StrCat(where, " is damaged: its checksum is ", got, ", its first line says ", wanted));
  }
  if (NestsTooDeep(body)) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, " is not a valid manifest: it nests deeper than ", kJsonNestingMax, " levels"));
  }
  const ordered_json j = ParseOrderedJson(text);
  if (!j.is_object() || !j.contains("format") || j["format"] != kFormatName || !j.contains("version") ||
      !j["version"].is_number_integer() || j["version"] < 1) {
    return absl::InvalidArgumentError(absl::StrCat(where, " does not describe an angel-ptm checkpoint"));
  }
  if (j["version"] > kCheckpointFormatVersion) {
    return absl::FailedPreconditionError(absl::StrCat(where, " has format version ", j["version"].get<int64_t>(),
                                                      ", this program reads versions up to ", kCheckpointFormatVersion,
                                                      ": use a newer angel-ptm"));
  }
  CheckpointManifest manifest;
  // The one place that catches a library's exceptions. The checksum was right, so they mean a faulty writer.
  try {
    manifest = FromJson(j);
    manifest.states = j.at("state_classes").get<std::vector<std::string>>();
  } catch (const nlohmann::json::exception& e) {
    return absl::InvalidArgumentError(absl::StrCat(where, " is not a valid manifest: ", e.what()));
  }
  if (const std::string wrong = Inconsistency(manifest); !wrong.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(where, " is not a valid manifest: ", wrong));
  }
  return manifest;
}

}  // namespace angel_ptm
