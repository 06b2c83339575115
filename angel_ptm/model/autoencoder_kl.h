// The autoencoder of latent diffusion (Rombach et al. 2022) exactly as diffusers' AutoencoderKL, whose tensor names its
// parameters have: residual blocks of group norm, SiLU and convolutions, halved between levels by convolutions of
// stride 2 and doubled by ones that read repeated pixels, with one head of attention over all pixels at the smallest
// size. Encoder and decoder are graphs of their own, forward only, with a table of their own each.
//
// An image is [height*width, channels], a row a pixel (kernels/ops/conv2d.h), of levels in -1..1.
#ifndef ANGEL_PTM_MODEL_AUTOENCODER_KL_H_
#define ANGEL_PTM_MODEL_AUTOENCODER_KL_H_

#include <cstdint>
#include <string>
#include <vector>

#include "angel_ptm/model/graph.h"

namespace angel_ptm {

struct AutoencoderKlShape {
  int64_t image_channels = 3, latent_channels = 4;
  std::vector<int64_t> block_out_channels;  // by level, multiples of norm_num_groups
  int64_t layers_per_block = 1, norm_num_groups = 32;
  bool has_quant_conv = true, has_post_quant_conv = true;  // products of the moments and of the latent
  bool has_query_names = false;  // attention is query, key, value and proj_attn, as before diffusers 0.15

  // Pixels of an image along one side of one of its latent's.
  int64_t reduction() const { return int64_t{1} << (block_out_channels.size() - 1); }
};

// Input "image" [height*width, image_channels] fp32, with sides that are multiples of reduction(); output "moments"
// [height*width / reduction()^2, 2 * latent_channels]: means, then logarithms of variances.
Graph BuildAutoencoderKlEncoder(const AutoencoderKlShape& shape, int64_t height, int64_t width);

// Input "latent" [height*width, latent_channels] fp32, as the encoder's means are; output "image"
// [height*width * reduction()^2, image_channels].
Graph BuildAutoencoderKlDecoder(const AutoencoderKlShape& shape, int64_t height, int64_t width);

// The tensors of diffusers that belong to the other of the two, as patterns (base/text.h).
std::vector<std::string> AutoencoderKlDecoderTensors();
std::vector<std::string> AutoencoderKlEncoderTensors();

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_AUTOENCODER_KL_H_
