// A configuration to start from.
#ifndef ANGEL_PTM_CONFIG_STARTER_H_
#define ANGEL_PTM_CONFIG_STARTER_H_

#include <string>

#include "angel_ptm/config/train_config.pb.h"

namespace angel_ptm {

struct Starter {
  std::string name;   // its files go to runs/<name>
  std::string input;  // the text to prepare
  // Folder of a released model to continue training, and that model's configuration with every needed field set. If
  // `from` is empty, the configuration has a new small dense model that trains on two cores.
  std::string from;
  HunyuanLmConfig model;
};

// Returns the text of a valid configuration: the fields that users usually set, each below its comment from
// train_config.proto.
std::string StarterConfig(const Starter& starter);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_CONFIG_STARTER_H_
