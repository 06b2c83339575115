// The config.json beside exported weights: what it must say for our graph to be the same model, and the sizes that it
// gives.
#ifndef ANGEL_PTM_CHECKPOINT_CONFIG_JSON_H_
#define ANGEL_PTM_CHECKPOINT_CONFIG_JSON_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "angel_ptm/base/status.h"

namespace angel_ptm {

// Every error names the file, the field, what is wanted and what is there.
class ConfigJson {
 public:
  // `defaults`: a JSON object of the values that the library assumes where the file says nothing.
  static absl::StatusOr<ConfigJson> Open(std::string path, std::string_view defaults);

  // OK if the field has the value of this JSON text; numbers are equal whatever their notation.
  absl::Status Require(std::string_view field, std::string_view json) const;
  // The same for one of several values, e.g. "GPT2Model" or ["GPT2Model"].
  absl::Status RequireOneOf(std::string_view field, const std::vector<std::string>& json) const;
  // A size: 1 to 2^31 - 1.
  absl::StatusOr<int64_t> Count(std::string_view field) const;
  absl::StatusOr<std::vector<int64_t>> Counts(std::string_view field) const;
  // A size that a file may also give as a list, with the same value for every layer.
  absl::StatusOr<int64_t> CountOfLayers(std::string_view field) const;
  absl::StatusOr<double> Number(std::string_view field) const;
  absl::StatusOr<std::vector<double>> Numbers(std::string_view field) const;
  absl::StatusOr<bool> Bool(std::string_view field) const;
  bool IsNull(std::string_view field) const;
  // A field's own fields, without defaults; errors name them after the field.
  absl::StatusOr<ConfigJson> Object(std::string_view field) const;
  // kFailedPrecondition: the field is that of another model.
  absl::Status Differs(std::string_view field, std::string_view wanted) const;

  const std::string& path() const { return path_; }

 private:
  // `text`: a JSON object.
  static ConfigJson FromFields(std::string path, std::string_view text);
  // The field's JSON; "null" if there is none.
  std::string Text(std::string_view field) const;

  std::string path_;                                        // with the fields that an Object() is in
  std::map<std::string, std::string, std::less<>> fields_;  // JSON by field
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_CHECKPOINT_CONFIG_JSON_H_
