#include "angel_ptm/data/dataset.h"

#include <limits>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/checksum.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/json.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/data/dataset_folder.h"
#include "angel_ptm/data/sealed_json.h"
#include "nlohmann/json.hpp"

namespace angel_ptm {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kFormat[] = "angel-ptm text dataset";

bool ReadChecksum(const Json& value, uint64_t* result) {
  return value.is_string() && ParseChecksumText(value.get_ref<const std::string&>(), result);
}

Json SplitToJson(const SplitStatistics& split) {
  return Json{{"documents", split.documents}, {"bytes", split.bytes}, {"tokens", split.tokens}};
}

bool ReadSplit(const Json& value, SplitStatistics* split) {
  if (!value.is_object()) return false;
  for (const auto& [key, field] : {std::pair("documents", &split->documents), std::pair("bytes", &split->bytes),
                                   std::pair("tokens", &split->tokens)}) {
    if (!value.contains(key) || !value[key].is_number_integer()) return false;
    *field = value[key].get<int64_t>();
  }
  return true;
}

Json LabelsToJson(const std::map<std::string, SplitStatistics>& labels) {
  Json result = Json::object();
  for (const auto& [label, split] : labels) result[label] = SplitToJson(split);
  return result;
}

bool ReadLabels(const Json& value, std::map<std::string, SplitStatistics>* labels) {
  if (!value.is_object()) return false;
  for (const auto& [label, split] : value.items()) {
    if (!ReadSplit(split, &(*labels)[label])) return false;
  }
  return true;
}

// The error for a file of the folder that is not the one that the manifest was written with.
absl::Status Mismatch(const std::string& path, uint64_t expected, uint64_t got) {
  return absl::DataLossError(absl::StrCat(path, " does not belong to its folder's dataset.json: expected checksum ",
                                          ChecksumText(expected), ", got ", ChecksumText(got),
                                          "; prepare the text again"));
}

absl::StatusOr<std::unique_ptr<PackedDataset>> OpenSplit(const std::string& folder, std::string_view name,
                                                         int64_t sequence_length, uint64_t header_xxh64,
                                                         int32_t end_of_text_id, const DatasetManifest& manifest) {
  ASSIGN_OR_RETURN(const std::string path, DatasetFilePath(folder, name));
  ASSIGN_OR_RETURN(auto split, PackedDataset::Open(path, sequence_length));
  if (split->file().header_xxh64() != header_xxh64) return Mismatch(path, header_xxh64, split->file().header_xxh64());
  if (split->file().tokenizer_xxh64() != manifest.tokenizer_xxh64) {
    return Mismatch(path, manifest.tokenizer_xxh64, split->file().tokenizer_xxh64());
  }
  if (split->file().end_of_text_id() != end_of_text_id) {
    return absl::DataLossError(
        absl::StrCat(path, " does not belong to its folder's tokenizer: expected documents to end ", "with token ",
                     end_of_text_id, ", got ", split->file().end_of_text_id(), "; prepare the text again"));
  }
  // Tokens are only checked against the vocabulary size in the file itself.
  if (split->file().vocabulary_size() != manifest.vocabulary_size) {
    return absl::DataLossError(absl::StrCat(
        path, " does not belong to its folder's dataset.json: expected a vocabulary of ", manifest.vocabulary_size,
        " tokens, got ", split->file().vocabulary_size(), "; prepare the text again"));
  }
  return split;
}

}  // namespace

std::string DatasetManifest::ToJson() const {
  Json json;
  json["format"] = kFormat;
  json["version"] = version;
  json["vocabulary_size"] = vocabulary_size;
  json["tokenizer_xxh64"] = ChecksumText(tokenizer_xxh64);
  json["tokenizer_config_xxh64"] = ChecksumText(tokenizer_config_xxh64);
  json["train_xxh64"] = ChecksumText(train_xxh64);
  json["validation_xxh64"] = ChecksumText(validation_xxh64);
  json["seed"] = seed;
  json["validation_fraction"] = validation_fraction;
  json["replaced_sequences"] = replaced_sequences;
  json["validation_unigram_entropy_nats_per_token"] = validation_unigram_entropy;
  json["train"] = SplitToJson(train);
  json["validation"] = SplitToJson(validation);
  json["train_labels"] = LabelsToJson(train_labels);
  json["validation_labels"] = LabelsToJson(validation_labels);
  return SealJson(json.dump(2, ' ', false, Json::error_handler_t::replace));
}

absl::StatusOr<DatasetManifest> DatasetManifest::FromJson(const std::string& text, const std::string& name) {
  const auto error = [&](const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat(name, " is not the description of a prepared dataset: ", what));
  };
  bool has_checksum = false;
  if (const std::string wrong = WrongSeal(text, &has_checksum); !wrong.empty()) return error(wrong);
  if (NestsTooDeep(text)) return error(absl::StrCat("it nests deeper than ", kJsonNestingMax, " levels"));
  const Json json = ParseOrderedJson(text);
  if (!json.is_object()) return error("it is not a JSON object (truncated?)");
  const Json null;
  const auto at = [&](const char* key) -> const Json& { return json.contains(key) ? json[key] : null; };
  if (at("format") != Json(kFormat)) return error(absl::StrCat("format should be \"", kFormat, "\""));
  if (at("version") != Json(kDatasetVersion) && at("version") != Json(1)) {
    const std::string got = at("version").is_structured() ? at("version").type_name() : at("version").dump();
    return error(absl::StrCat("its format version should be from 1 to ", kDatasetVersion, ", got ", got));
  }
  DatasetManifest m;
  m.version = at("version").get<int32_t>();
  if (has_checksum != (m.version > 1)) return error("its first line should hold a checksum exactly from version 2 on");
  if (m.version > 1 && !ReadChecksum(at("tokenizer_config_xxh64"), &m.tokenizer_config_xxh64)) {
    return error("tokenizer_config_xxh64 should be a checksum of 16 hexadecimal digits");
  }
  for (const auto& [key, field] :
       {std::pair("tokenizer_xxh64", &m.tokenizer_xxh64), std::pair("train_xxh64", &m.train_xxh64),
        std::pair("validation_xxh64", &m.validation_xxh64)}) {
    if (!ReadChecksum(at(key), field))
      return error(absl::StrCat(key, " should be a checksum of 16 hexadecimal digits"));
  }
  for (const char* key : {"vocabulary_size", "seed", "replaced_sequences"}) {
    if (!at(key).is_number_integer()) return error(absl::StrCat(key, " should be a whole number"));
  }
  for (const char* key : {"validation_fraction", "validation_unigram_entropy_nats_per_token"}) {
    if (!at(key).is_number()) return error(absl::StrCat(key, " should be a number"));
  }
  const int64_t vocabulary_size = at("vocabulary_size").get<int64_t>();
  constexpr int64_t kVocabularySizeMax = std::numeric_limits<int32_t>::max();
  if (vocabulary_size < kVocabularySizeMin || vocabulary_size > kVocabularySizeMax) {
    return error(absl::StrCat("vocabulary_size should be from ", kVocabularySizeMin, " to ", kVocabularySizeMax,
                              ", got ", vocabulary_size));
  }
  m.vocabulary_size = static_cast<int32_t>(vocabulary_size);
  m.seed = at("seed").get<uint64_t>();
  m.replaced_sequences = at("replaced_sequences").get<int64_t>();
  m.validation_fraction = at("validation_fraction").get<double>();
  m.validation_unigram_entropy = at("validation_unigram_entropy_nats_per_token").get<double>();
  if (!ReadSplit(at("train"), &m.train) || !ReadSplit(at("validation"), &m.validation) ||
      !ReadLabels(at("train_labels"), &m.train_labels) || !ReadLabels(at("validation_labels"), &m.validation_labels)) {
    return error("train and validation should hold documents, bytes and tokens");
  }
  return m;
}

absl::StatusOr<TextDataset> OpenTextDataset(const std::string& folder, int64_t sequence_length) {
  TextDataset dataset;
  ASSIGN_OR_RETURN(const std::string manifest_path, DatasetFilePath(folder, "dataset.json"));
  absl::StatusOr<std::string> json = ReadFile(manifest_path);
  if (absl::IsNotFound(json.status())) {
    return absl::NotFoundError(
        absl::StrCat(folder, " is not a finished dataset: it has no dataset.json; make one with angel-ptm prepare"));
  }
  RETURN_IF_ERROR(json.status());
  ASSIGN_OR_RETURN(dataset.manifest, DatasetManifest::FromJson(*json, manifest_path));
  const DatasetManifest& manifest = dataset.manifest;

  ASSIGN_OR_RETURN(const std::string tokenizer_path, DatasetFilePath(folder, "tokenizer.json"));
  ASSIGN_OR_RETURN(dataset.tokenizer_json, ReadFile(tokenizer_path));
  ASSIGN_OR_RETURN(const std::string config_path, DatasetFilePath(folder, "tokenizer_config.json"));
  ASSIGN_OR_RETURN(dataset.tokenizer_config_json, ReadFile(config_path));
  const uint64_t config_xxh64 = Xxh64(dataset.tokenizer_config_json);
  if (manifest.version == 1) {
    dataset.note = absl::StrCat(folder, " has dataset format version 1, which has no checksums of dataset.json and ",
                                "tokenizer_config.json: they were not checked; prepare the text again to have them");
  } else if (config_xxh64 != manifest.tokenizer_config_xxh64) {
    return Mismatch(config_path, manifest.tokenizer_config_xxh64, config_xxh64);
  }
  const uint64_t tokenizer_xxh64 = Xxh64(dataset.tokenizer_json);
  if (tokenizer_xxh64 != manifest.tokenizer_xxh64) {
    return Mismatch(tokenizer_path, manifest.tokenizer_xxh64, tokenizer_xxh64);
  }
  ASSIGN_OR_RETURN(dataset.tokenizer,
                   Tokenizer::FromJson(dataset.tokenizer_json, tokenizer_path, dataset.tokenizer_config_json));
  if (dataset.tokenizer->vocabulary_size() != manifest.vocabulary_size) {
    return absl::DataLossError(absl::StrCat(manifest_path, " has a vocabulary_size of ", manifest.vocabulary_size,
                                            ", but ", tokenizer_path, " has ", dataset.tokenizer->vocabulary_size(),
                                            " tokens; prepare the text again"));
  }

  const int32_t end_of_text_id = dataset.tokenizer->end_of_text_id();
  ASSIGN_OR_RETURN(dataset.train,
                   OpenSplit(folder, "train.tokens", sequence_length, manifest.train_xxh64, end_of_text_id, manifest));
  if (manifest.validation.tokens > 0) {
    ASSIGN_OR_RETURN(dataset.validation, OpenSplit(folder, "validation.tokens", sequence_length,
                                                   manifest.validation_xxh64, end_of_text_id, manifest));
  }
  return dataset;
}

}  // namespace angel_ptm
