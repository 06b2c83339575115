#!/usr/bin/env python3
"""Writes tests/train/testdata/autoencoder_kl: a tiny AutoencoderKL of diffusers and what it makes of an image.

  make_autoencoder_kl_golden.py FOLDER
"""
import pathlib
import sys

import torch
from safetensors.torch import save_file

from autoencoder_kl_parity import make_model

TINY = dict(block_out_channels=[4, 8], layers_per_block=1, norm_num_groups=2, latent_channels=2)


def main():
    folder = pathlib.Path(sys.argv[1])
    model = make_model(TINY, folder)
    generator = torch.Generator().manual_seed(4)
    levels = torch.randint(0, 256, (1, 6, 10, 3), generator=generator).float()
    latents = torch.randn(1, 2, 3, 5, generator=generator)
    with torch.no_grad():
        posterior = model.encode(levels.permute(0, 3, 1, 2) / 127.5 - 1).latent_dist
        decoded = model.decode(latents / model.config.scaling_factor).sample
    expected = {"levels": levels, "latents": latents, "mean": posterior.mean, "std": posterior.std, "decoded": decoded}
    save_file({name: value.contiguous() for name, value in expected.items()}, folder / "expected.safetensors")


if __name__ == "__main__":
    main()
