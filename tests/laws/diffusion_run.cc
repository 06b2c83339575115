#include "tests/laws/diffusion_run.h"

#include <filesystem>
#include <span>

#include "absl/strings/str_cat.h"
#include "angel_ptm/checkpoint/checkpoint.h"
#include "angel_ptm/train/sample.h"
#include "angel_ptm/train/train_state.h"
#include "tests/laws/trainer_run.h"
#include "tests/support/or_die.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {

std::string DeviceBudget(const TrainConfig& config, double share) {
  const auto whole = static_cast<double>(UnconstrainedDeviceBytes(config, /*world_size=*/2));
  return absl::StrCat("memory.device_bytes=", static_cast<int64_t>(share * whole));
}

std::map<std::string, std::vector<float>> StatesOf(const TrainConfig& config) {
  const LatestCheckpoint latest = OrDie(FindLatestCheckpoint(CheckpointDirectory(config)));
  const CheckpointReader checkpoint = OrDie(CheckpointReader::Open(latest.path));
  std::map<std::string, std::vector<float>> all;
  for (UnitId unit = 0; unit < static_cast<UnitId>(checkpoint.manifest().units.size()); ++unit) {
    for (const char* state : {"parameters", "ema", "moment1", "moment2"}) {
      if (!checkpoint.Holds(unit, state)) continue;
      std::vector<float>& values = all[absl::StrCat(checkpoint.manifest().units[unit].name, " ", state)];
      values.resize(static_cast<size_t>(checkpoint.manifest().units[unit].elements));
      OrDie(checkpoint.ReadRange(unit, state, 0, values));
    }
  }
  return all;
}

std::map<std::string, std::string> SamplesOf(const TrainConfig& config, int64_t step) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(SamplesFolder(config.output().directory(), step))) {
    files[entry.path().filename()] = Slurp(entry.path());
  }
  return files;
}

}  // namespace angel_ptm
