// A small valid config that tests change field by field.
#ifndef TESTS_CONFIG_EXAMPLE_CONFIG_H_
#define TESTS_CONFIG_EXAMPLE_CONFIG_H_

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "angel_ptm/config/load.h"

namespace angel_ptm {

inline constexpr char kExampleMoe[] = R"(
model {
  hunyuan_lm {
    hidden_size: 64 intermediate_size: 32 num_hidden_layers: 2 num_attention_heads: 4 num_key_value_heads: 2
    num_experts: 4 moe_topk: 2 vocab_size: 512
  }
}
data { directory: "data" sequence_length: 64 prepare { input: "a.txt" } }
batch { global_batch_sequences: 8 micro_batch_sequences: 2 }
output { directory: "out" }
)";

inline absl::StatusOr<TrainConfig> ExampleWith(const std::vector<std::string>& overrides) {
  return ParseTrainConfig(kExampleMoe, "example", overrides);
}

// The same where it must parse.
inline TrainConfig ExampleConfig(const std::vector<std::string>& overrides = {}) {
  const auto config = ExampleWith(overrides);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *config : TrainConfig();
}

inline std::string Message(const absl::Status& status) { return std::string(status.message()); }

}  // namespace angel_ptm

#endif  // TESTS_CONFIG_EXAMPLE_CONFIG_H_
