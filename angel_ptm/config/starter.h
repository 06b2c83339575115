// A configuration to begin with.
#ifndef ANGEL_PTM_CONFIG_STARTER_H_
#define ANGEL_PTM_CONFIG_STARTER_H_

#include <string>

namespace angel_ptm {

// The text of a configuration that is valid and trains a small dense model on two cores: the fields that a person
// usually sets, each below its comment from train_config.proto. Its files go to runs/<name>; `input` is the text to
// prepare.
std::string StarterConfig(const std::string& name, const std::string& input);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_CONFIG_STARTER_H_
