// Conversion to and from directories of diffusers' HunyuanDiT2DModel and its ControlNet, with proof (law 7).
#ifndef ANGEL_PTM_CHECKPOINT_DIFFUSERS_H_
#define ANGEL_PTM_CHECKPOINT_DIFFUSERS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/checkpoint/weights_directory.h"
#include "angel_ptm/model/hunyuan_dit.h"
#include "angel_ptm/model/parameter_table.h"

namespace angel_ptm {

// A class of diffusers: HunyuanDiT2DModel, or HunyuanDiT2DControlNetModel of a model with a branch (HunyuanDitShape,
// control).
enum class DiffusersPart : uint8_t { kModel, kControlNet };

// Writes config.json and diffusion_pytorch_model.safetensors with ExportWeights: what the class's from_pretrained(path)
// loads. `table` is that of `model`.
absl::Status ExportDiffusers(const ReadParameters& read, const ParameterTable& table, const HunyuanDitShape& model,
                             DiffusersPart part, const std::string& path, int64_t file_bytes_max = 10'000'000'000);

// Opens such a directory, or the folder transformer/ (controlnet/) in it if that has a config.json, as the units of
// `table` that the part has; other units are zeros. `table` is that of `model`. A configuration of another model is an
// error that names the field, what it wants and what the directory has. The size of latents may differ: no weight
// depends on it.
absl::StatusOr<WeightsReader> OpenDiffusers(const std::string& path, const ParameterTable& table,
                                            const HunyuanDitShape& model, DiffusersPart part);

// Reads all units of `table` from the parts that were opened. If there is no branch in files, a new one begins as a
// copy of the model. `table` must outlive the result.
ReadParameters ReadDiffusers(const ParameterTable& table, WeightsReader model, std::optional<WeightsReader> branch);

// Name and shape of every tensor of the architecture as diffusers loads it.
std::vector<ExportedName> DiffusersTensors(const HunyuanDitShape& model, DiffusersPart part);

// The text of config.json.
std::string DiffusersConfig(const HunyuanDitShape& model, DiffusersPart part);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_CHECKPOINT_DIFFUSERS_H_
