// A configuration to begin with.
#ifndef ANGEL_PTM_CONFIG_STARTER_H_
#define ANGEL_PTM_CONFIG_STARTER_H_

#include <string>

#include "angel_ptm/config/train_config.pb.h"

namespace angel_ptm {

struct Starter {
  std::string name;   // its files go to runs/<name>
  std::string input;  // the text to prepare
  // A folder with a released model to go on with, and what that is, every field that it needs set. Empty: a small dense
  // model of its own, that trains on two cores.
  std::string from;
  HunyuanLmConfig model;
};

// The text of a configuration that is valid: the fields that a person usually sets, each below its comment from
// train_config.proto.
std::string StarterConfig(const Starter& starter);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_CONFIG_STARTER_H_
