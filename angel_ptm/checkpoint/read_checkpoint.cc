#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/checksum.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/checkpoint/checkpoint.h"
#include "angel_ptm/checkpoint/directory.h"
#include "angel_ptm/checkpoint/safetensors.h"

namespace angel_ptm {

// A rank's file with the checksums of its tensors' chunks as text.
struct CheckpointReader::RankFile {
  SafetensorsReader file;
  std::map<std::string, std::vector<std::string>, std::less<>> chunk_checksums;
};

struct CheckpointReader::OpenFiles {
  static constexpr size_t kMax = 64;
  std::mutex mutex;
  std::deque<std::pair<int, std::shared_ptr<const RankFile>>> files;  // the oldest first
};

CheckpointReader::CheckpointReader(std::string path, CheckpointManifest manifest)
    : path_(std::move(path)), manifest_(std::move(manifest)), open_files_(std::make_unique<OpenFiles>()) {}
CheckpointReader::CheckpointReader(CheckpointReader&&) noexcept = default;
CheckpointReader::~CheckpointReader() = default;

absl::StatusOr<CheckpointReader> CheckpointReader::Open(std::string path, const Patience& patience, RankShare share) {
  const std::string manifest_path = absl::StrCat(path, "/", std::string(kManifestFile));
  ASSIGN_OR_RETURN(const bool complete, PathAppears(manifest_path, patience));
  if (!complete) {
    return absl::NotFoundError(absl::StrCat(path, " is not a complete checkpoint: it has no manifest.json"));
  }
  ASSIGN_OR_RETURN(const std::string text, ReadFile(manifest_path));
  ASSIGN_OR_RETURN(CheckpointManifest manifest, DecodeManifest(text, manifest_path));
  // A renamed checkpoint would be taken for a newer or an older one than it is.
  if (const std::optional<int64_t> named = StepOfName(OwnName(path)); named && *named != manifest.step) {
    return absl::DataLossError(absl::StrCat("the checkpoint ", path, " is named ", *named, ", holds step ",
                                            manifest.step, ": give each checkpoint its own name back, this one ",
                                            CheckpointName(manifest.step)));
  }
  const auto check_size = [&](const std::string& name, int64_t bytes) -> absl::Status {
    ASSIGN_OR_RETURN(const bool exists, PathExists(absl::StrCat(path, "/", name)));
    if (!exists) {
      return absl::NotFoundError(absl::StrCat("the checkpoint ", path, " is damaged: ", name, " is missing"));
    }
    ASSIGN_OR_RETURN(const FileReader file, FileReader::Open(absl::StrCat(path, "/", name)));
    if (file.size() == bytes) return absl::OkStatus();
    return absl::DataLossError(absl::StrCat("the checkpoint is damaged: ", file.path(), " has ", file.size(),
                                            " bytes, its manifest says ", bytes));
  };
  // If each of 10,000 ranks looked at every file, that would be 10^8 looks at a file system that they share.
  size_t number = 0;
  const auto is_ours = [&] { return number++ % static_cast<size_t>(share.ranks) == static_cast<size_t>(share.rank); };
  for (const ManifestRankFile& f : manifest.rank_files) {
    if (is_ours()) RETURN_IF_ERROR(check_size(f.name, f.bytes));
  }
  for (const ManifestCopiedFile& f : manifest.copied_files) {
    if (is_ours()) RETURN_IF_ERROR(check_size(f.name, f.bytes));
  }
  return CheckpointReader(std::move(path), std::move(manifest));
}

absl::Status CheckpointReader::Fit(const ParameterTable& table) {
  absl::StatusOr<UnitMap> map = UnitMap::Create(manifest_.units, table);
  if (!map.ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the checkpoint ", path_, " is of another model: ", map.status().message()));
  }
  map_ = *std::move(map);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const CheckpointReader::RankFile>> CheckpointReader::OpenRankFile(int rank) const {
  const std::lock_guard lock(open_files_->mutex);
  for (const auto& [opened, file] : open_files_->files) {
    if (opened == rank) return file;
  }
  const ManifestRankFile& listed = manifest_.rank_files[rank];
  auto opened_file = SafetensorsReader::Open(absl::StrCat(path_, "/", listed.name));
  if (!opened_file.ok()) {
    return absl::Status(opened_file.status().code(),
                        absl::StrCat("the checkpoint is damaged: ", opened_file.status().message()));
  }
  SafetensorsReader reader = *std::move(opened_file);
  if (reader.file_bytes() != listed.bytes || reader.header_checksum() != listed.header_checksum) {
    return absl::DataLossError(absl::StrCat("the checkpoint is damaged: the header of ", reader.path(),
                                            " has checksum ", ChecksumText(reader.header_checksum()),
                                            ", its manifest says ", ChecksumText(listed.header_checksum)));
  }
  std::map<std::string, std::vector<std::string>, std::less<>> checksums;
  for (const auto& [key, value] : reader.metadata()) {
    constexpr std::string_view kPrefix = "xxh3:";
    if (key.substr(0, kPrefix.size()) == kPrefix) checksums[key.substr(kPrefix.size())] = absl::StrSplit(value, ' ');
  }
  auto file = std::make_shared<const RankFile>(RankFile{std::move(reader), std::move(checksums)});
  if (open_files_->files.size() == OpenFiles::kMax) open_files_->files.pop_front();
  open_files_->files.emplace_back(rank, file);
  return file;
}

absl::Status CheckpointReader::ReadPiece(const RankFile& file, const std::string& tensor, int64_t begin,
                                         std::span<float> out, std::vector<float>& scratch) const {
  const SafetensorsTensor* entry = file.file.Find(tensor);
  const auto checksums = file.chunk_checksums.find(tensor);
  const int64_t end = begin + static_cast<int64_t>(out.size()), chunk_elements = manifest_.chunk_elements;
  if (entry == nullptr || entry->dtype != DType::kFloat32 || entry->shape.rank() != 1 || entry->shape[0] < end ||
      checksums == file.chunk_checksums.end() ||
      static_cast<int64_t>(checksums->second.size()) != (entry->shape[0] + chunk_elements - 1) / chunk_elements) {
    return absl::DataLossError(
        absl::StrCat("the checkpoint is damaged: ", file.file.path(), " lacks (part of) tensor ", tensor));
  }
  for (int64_t chunk = begin / chunk_elements; chunk * chunk_elements < end; ++chunk) {
    const int64_t chunk_begin = chunk * chunk_elements;
    const int64_t n = std::min(chunk_elements, entry->shape[0] - chunk_begin);
    const int64_t from = std::max(begin, chunk_begin), to = std::min(end, chunk_begin + n);
    const bool whole = from == chunk_begin && to == chunk_begin + n;
    if (!whole && static_cast<int64_t>(scratch.size()) < n) scratch.resize(static_cast<size_t>(n));
    const std::span<float> wanted = out.subspan(static_cast<size_t>(from - begin), static_cast<size_t>(to - from));
    const std::span<float> values = whole ? wanted : std::span(scratch).first(static_cast<size_t>(n));
    RETURN_IF_ERROR(
        file.file.Read(*entry, chunk_begin * static_cast<int64_t>(sizeof(float)), std::as_writable_bytes(values)));
    const std::string got = ChecksumText(Xxh3(std::as_bytes(values)));
    if (got != checksums->second[chunk]) {
      return absl::DataLossError(absl::StrCat("the checkpoint is damaged: ", file.file.path(), ": tensor ", tensor,
                                              ", elements ", chunk_begin, " to ", chunk_begin + n, ": checksum is ",
                                              got, ", should be ", checksums->second[chunk]));
    }
    if (!whole) std::copy_n(values.begin() + (from - chunk_begin), to - from, wanted.begin());
  }
  return absl::OkStatus();
}

std::vector<int64_t> CheckpointReader::OfUnits(const std::vector<int64_t>& of_stored) const {
  if (map_.is_identity() || of_stored.size() != manifest_.units.size()) return of_stored;
  std::vector<int64_t> of_units;
  for (UnitId unit = 0; unit < map_.unit_count(); ++unit) of_units.push_back(of_stored[map_.FirstOf(unit)]);
  return of_units;
}

bool CheckpointReader::Holds(UnitId unit, std::string_view state) const {
  const std::vector<std::string>& states = manifest_.states;
  return std::find(states.begin(), states.end(), state) != states.end() &&
         manifest_.units[map_.FirstOf(unit)].Has(state);
}

absl::Status CheckpointReader::ReadRange(UnitId unit, std::string_view state, int64_t begin,
                                         std::span<float> out) const {
  if (map_.is_identity()) return ReadStored(unit, state, begin, out);
  std::ranges::fill(out, 0.0f);
  for (const UnitMap::Piece& piece : map_.PiecesOf(unit, begin, begin + static_cast<int64_t>(out.size()))) {
    RETURN_IF_ERROR(
        ReadStored(piece.unit, state, piece.at,
                   out.subspan(static_cast<size_t>(piece.begin - begin), static_cast<size_t>(piece.count))));
  }
  return absl::OkStatus();
}

std::vector<CheckpointReader::StoredRange> CheckpointReader::StoredRangesOf(UnitId unit, int64_t begin,
                                                                            int64_t end) const {
  const auto pieces = map_.is_identity() ? std::vector{UnitMap::Piece{begin, end - begin, unit, begin}}
                                         : map_.PiecesOf(unit, begin, end);
  std::vector<StoredRange> ranges = {{0, begin, end - begin}};  // padding goes with what is beside it
  bool some = false;
  for (const UnitMap::Piece& piece : pieces) {
    const ManifestUnit& stored = manifest_.units[piece.unit];
    const int64_t piece_end = std::min(piece.at + piece.count, stored.elements);
    for (int64_t at = piece.at; at < piece_end; at = (at / stored.slice_elements + 1) * stored.slice_elements) {
      const int rank = static_cast<int>(at / stored.slice_elements);
      if (!some) {
        ranges[0].stored_rank = rank;
      } else if (rank != ranges.back().stored_rank) {
        const int64_t from = piece.begin + at - piece.at;
        ranges.back().count = from - ranges.back().begin;
        ranges.push_back({rank, from, end - from});
      }
      some = true;
    }
  }
  return ranges;
}

absl::Status CheckpointReader::ReadStored(UnitId unit, std::string_view state, int64_t begin,
                                          std::span<float> out) const {
  APTM_CHECK(unit >= 0 && unit < static_cast<UnitId>(manifest_.units.size()) && begin >= 0, "unit ", unit, " at ",
             begin);
  const ManifestUnit& u = manifest_.units[unit];
  const std::vector<std::string>& states = manifest_.states;
  if (std::find(states.begin(), states.end(), state) == states.end() || !u.Has(state)) {
    return absl::NotFoundError(
        absl::StrCat("the checkpoint ", path_, " holds no ", std::string(state), " of ", u.name));
  }
  const std::string tensor = StateTensorName(state, u.name);
  const int64_t end = begin + static_cast<int64_t>(out.size()), stored_end = std::min(end, u.elements);
  std::vector<float> scratch;
  int64_t at = begin;
  while (at < stored_end) {
    const int rank = static_cast<int>(at / u.slice_elements);
    const int64_t slice_begin = rank * u.slice_elements;
    const int64_t piece_end = std::min(stored_end, slice_begin + u.slice_elements);
    ASSIGN_OR_RETURN(const std::shared_ptr<const RankFile> file, OpenRankFile(rank));
    RETURN_IF_ERROR(ReadPiece(*file, tensor, at - slice_begin,
                              out.subspan(static_cast<size_t>(at - begin), static_cast<size_t>(piece_end - at)),
                              scratch));
    at = piece_end;
  }
  std::fill(out.begin() + (std::max(at, begin) - begin), out.end(), 0.0f);
  return absl::OkStatus();
}

absl::StatusOr<std::string> CheckpointReader::ReadCopiedFile(const std::string& name) const {
  for (const ManifestCopiedFile& f : manifest_.copied_files) {
    if (f.name != name) continue;
    ASSIGN_OR_RETURN(std::string text, ReadFile(absl::StrCat(path_, "/", name)));
    if (Xxh3(text) == f.checksum) return text;
    return absl::DataLossError(absl::StrCat("the checkpoint is damaged: ", path_, "/", name, " has checksum ",
                                            ChecksumText(Xxh3(text)), ", its manifest says ",
                                            ChecksumText(f.checksum)));
  }
  return absl::NotFoundError(absl::StrCat("the checkpoint ", path_, " holds no file ", name));
}

absl::Status CheckpointReader::HoldFiles() const {
  const int count = std::min(manifest_.world_size, static_cast<int>(OpenFiles::kMax));
  for (int rank = 0; rank < count; ++rank) RETURN_IF_ERROR(OpenRankFile(rank).status());
  return absl::OkStatus();
}

absl::Status CheckpointReader::Verify() const {
  RETURN_IF_ERROR(HoldFiles());
  for (const ManifestCopiedFile& f : manifest_.copied_files) RETURN_IF_ERROR(ReadCopiedFile(f.name).status());
  // File by file, so that each file is opened only once, even if there are more files than are kept open.
  std::vector<float> buffer(static_cast<size_t>(manifest_.chunk_elements));
  for (int rank = 0; rank < manifest_.world_size; ++rank) {
    RETURN_IF_ERROR(OpenRankFile(rank).status());
    for (UnitId u = 0; u < static_cast<UnitId>(manifest_.units.size()); ++u) {
      const ManifestUnit& unit = manifest_.units[u];
      const int64_t slice = rank * unit.slice_elements,
                    slice_end = std::min(unit.elements, slice + unit.slice_elements);
      for (const std::string& state : manifest_.states) {
        for (int64_t at = slice; at < slice_end && unit.Has(state); at += manifest_.chunk_elements) {
          const int64_t n = std::min(manifest_.chunk_elements, slice_end - at);
          RETURN_IF_ERROR(ReadStored(u, state, at, std::span(buffer).first(static_cast<size_t>(n))));
        }
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace angel_ptm
