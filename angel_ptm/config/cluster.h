// A cluster file (cluster.proto): reading, checking, writing.
#ifndef ANGEL_PTM_CONFIG_CLUSTER_H_
#define ANGEL_PTM_CONFIG_CLUSTER_H_

#include <string>

#include "angel_ptm/base/status.h"
#include "angel_ptm/config/cluster.pb.h"

namespace angel_ptm {

// Errors: kNotFound etc. if the file cannot be read; kInvalidArgument with all errors of the text, one per line, as
// "path:line:column: message", or with all that ValidateCluster finds, one per line, each after "path: ".
absl::StatusOr<Cluster> LoadCluster(const std::string& path);

// The same from text in memory; `name` stands for the path in messages.
absl::StatusOr<Cluster> ParseCluster(const std::string& text, const std::string& name);

// kInvalidArgument with what is missing, out of range or contradicts itself, one sentence per line.
absl::Status ValidateCluster(const Cluster& cluster);

// Protobuf text that ParseCluster reads back.
std::string ToText(const Cluster& cluster);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_CONFIG_CLUSTER_H_
