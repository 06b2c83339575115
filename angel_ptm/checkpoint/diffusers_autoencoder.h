// Reads directories of diffusers' AutoencoderKL.
#ifndef ANGEL_PTM_CHECKPOINT_DIFFUSERS_AUTOENCODER_H_
#define ANGEL_PTM_CHECKPOINT_DIFFUSERS_AUTOENCODER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/checkpoint/weights_directory.h"
#include "angel_ptm/model/autoencoder_kl.h"
#include "angel_ptm/model/parameter_table.h"

namespace angel_ptm {

// What models see of a latent: (latent - shift_factor) * scaling_factor, or by channel
// (latent - mean) * scaling_factor / std.
struct LatentScaling {
  double scaling_factor = 0, shift_factor = 0;
  std::vector<double> mean, std;  // latents_mean and latents_std, by channel; or empty

  double Scaled(double latent, int64_t channel) const;
  double Unscaled(double scaled, int64_t channel) const;  // back
};

struct AutoencoderKlDirectory {
  std::string path;
  AutoencoderKlShape shape;
  LatentScaling scaling;

  // Weights of the encoder's or the decoder's graph (model/autoencoder_kl.h), by its table.
  absl::StatusOr<WeightsReader> OpenEncoder(const ParameterTable& table) const;
  absl::StatusOr<WeightsReader> OpenDecoder(const ParameterTable& table) const;
};

// Opens `path`, or the folder vae/ in it if that has a config.json. Errors name the field or tensor that another
// architecture has.
absl::StatusOr<AutoencoderKlDirectory> OpenAutoencoderKl(const std::string& path);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_CHECKPOINT_DIFFUSERS_AUTOENCODER_H_
