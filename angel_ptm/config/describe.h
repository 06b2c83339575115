// The fields of TrainConfig as text for people, taken from the comments of train_config.proto at build time.
#ifndef ANGEL_PTM_CONFIG_DESCRIBE_H_
#define ANGEL_PTM_CONFIG_DESCRIBE_H_

#include <string>
#include <vector>

namespace angel_ptm {

struct FieldDescription {
  std::string path;           // "optimizer.adamw.learning_rate"
  std::string type;           // "double", "COSINE|LINEAR|CONSTANT", "string, repeated"
  std::string meaning;        // one sentence or more
  std::string unit;           // "bytes", "none"
  std::string default_value;  // "3e-4", "0 (must be set)"
  std::string advice;
};

// Every field that holds a value (not a message), in the order of the .proto.
std::vector<FieldDescription> ListFields();

// The help text: for each field its path, type, default and unit, followed by the first sentence of its comment.
std::string DescribeFields();

}  // namespace angel_ptm

#endif  // ANGEL_PTM_CONFIG_DESCRIBE_H_
