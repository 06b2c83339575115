// Command lines: `angel-ptm <command> [positional...] --flag value ...`.
#ifndef ANGEL_PTM_LAUNCH_ARGUMENTS_H_
#define ANGEL_PTM_LAUNCH_ARGUMENTS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "angel_ptm/base/status.h"

namespace angel_ptm {

// What a command accepts. A flag is written --name value or --name=value; a switch takes no value.
struct ArgumentSpec {
  std::vector<std::string> flags;  // may be given several times
  std::vector<std::string> switches;
  int positional_max = 0;
  std::string positional;  // name of the positional arguments for messages: "FILE"
};

class Arguments {
 public:
  // kInvalidArgument names the first argument that the spec does not allow, and what the spec allows.
  static absl::StatusOr<Arguments> Parse(const std::vector<std::string>& words, const ArgumentSpec& spec);

  bool Has(const std::string& name) const { return values_.contains(name); }
  // All values of a flag, in order.
  std::vector<std::string> All(const std::string& flag) const;
  // The last value, or `fallback`.
  std::string Get(const std::string& flag, const std::string& fallback) const;
  // The value of the flag; kInvalidArgument if it was not given.
  absl::StatusOr<std::string> Require(const std::string& flag) const;
  absl::StatusOr<int64_t> GetInt(const std::string& flag, int64_t fallback) const;
  // For values from 0 to 2^64 - 1, such as seeds.
  absl::StatusOr<uint64_t> GetUint(const std::string& flag, uint64_t fallback) const;
  absl::StatusOr<int64_t> GetBytes(const std::string& flag, int64_t fallback) const;  // ParseBytes
  absl::StatusOr<double> GetDouble(const std::string& flag, double fallback) const;
  const std::vector<std::string>& positional() const { return positional_; }

 private:
  std::map<std::string, std::vector<std::string>> values_;  // switches have no values
  std::vector<std::string> positional_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_ARGUMENTS_H_
