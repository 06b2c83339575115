// The autoencoder of latent diffusion (Rombach et al. 2022), exactly as diffusers' AutoencoderKL, whose tensor names
// its parameters have. It consists of residual blocks of group norm, SiLU and convolutions. Between levels the image is
// halved by convolutions of stride 2, or doubled by convolutions that read repeated pixels. At the smallest size, one
// attention head attends over all pixels. Encoder and decoder are separate forward-only graphs, each with its own
// table.
//
// An image is [height*width, channels], one row per pixel (kernels/ops/conv2d.h), with values in -1..1.
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
  bool has_quant_conv = true, has_post_quant_conv = true;  // 1x1 convolutions of the moments and the latent
  bool has_query_names = false;  // attention has query, key, value and proj_attn, as before diffusers 0.15

  // Pixels of the image, along one side, per pixel of its latent.
  int64_t reduction() const { return int64_t{1} << (block_out_channels.size() - 1); }
};

// Input: "image" [height*width, image_channels] fp32; height and width are multiples of reduction(). Output: "moments"
// [height*width / reduction()^2, 2 * latent_channels], which are means, then logarithms of variances.
Graph BuildAutoencoderKlEncoder(const AutoencoderKlShape& shape, int64_t height, int64_t width);

// Input: "latent" [height*width, latent_channels] fp32, like the encoder's means; height and width are the latent's.
// Output: "image" [height*width * reduction()^2, image_channels].
Graph BuildAutoencoderKlDecoder(const AutoencoderKlShape& shape, int64_t height, int64_t width);

// Patterns (base/text.h) of the tensors of diffusers that belong to the decoder, and to the encoder.
std::vector<std::string> AutoencoderKlDecoderTensors();
std::vector<std::string> AutoencoderKlEncoderTensors();

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_AUTOENCODER_KL_H_
