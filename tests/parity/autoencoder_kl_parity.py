#!/usr/bin/env python3
"""Compares our encoder and decoder with diffusers' AutoencoderKL, with random weights.

  autoencoder_kl_parity.py PROBE WORK_FOLDER

For small levels of channels and for those of Stable Diffusion (four levels, two layers, groups of 32), on square and
other images, under today's names of tensors, those before diffusers 0.15 and in fp16, with sixteen shifted channels and no
quant_conv as in Stable Diffusion 3, and with latents scaled by channel: writes the model and inputs, runs
autoencoder_kl_probe, and compares means, deviations and decoded images (1e-5 of the largest).
Needs torch, diffusers and safetensors.
"""
import math
import pathlib
import shutil
import subprocess
import sys

import diffusers
import torch
from safetensors.torch import load_file, save_file

SMALL = dict(block_out_channels=[16, 24], layers_per_block=1, norm_num_groups=8, latent_channels=3)
SD = dict(block_out_channels=[128, 256, 512, 512], layers_per_block=2, norm_num_groups=32, latent_channels=4)
SHIFTED = dict(SMALL, latent_channels=16, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False)
BY_CHANNEL = dict(SMALL, latents_mean=[0.7, -1.3, 0.1], latents_std=[2.5, 0.4, 1.1])
OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
LIMIT = 1e-5


def error(got, want):
    difference = (got.double() - want.double()).abs().max().item()
    return difference / want.double().abs().max().item() if math.isfinite(difference) else float("inf")


def make_model(options, folder):
    """With weights at random whose sums keep their size, so that every layer matters."""
    torch.manual_seed(3)
    levels = len(options["block_out_channels"])
    model = diffusers.AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * levels, up_block_types=["UpDecoderBlock2D"] * levels,
        scaling_factor=0.13025, **options)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 1 / math.sqrt(parameter[0].numel()))
            else:
                parameter.normal_(1 if "norm" in name and name.endswith("weight") else 0, 0.2)
    model.save_pretrained(folder)
    return model.eval()


def rename(folder):
    """As before diffusers 0.15."""
    path = folder / "diffusion_pytorch_model.safetensors"
    renamed = {}
    for name, value in load_file(path).items():
        for now, before in OLD_NAMES.items():
            name = name.replace(f"attentions.0.{now}.", f"attentions.0.{before}.")
        renamed[name] = value
    save_file(renamed, path, metadata={"format": "pt"})


def unscaled(latents, config):
    """As diffusers' pipelines do before they decode."""
    if config.latents_mean is None:
        return latents / config.scaling_factor + (config.shift_factor or 0)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (config.latents_mean, config.latents_std))
    return latents * std / config.scaling_factor + mean


def compare(probe, work, name, options, height, width, old=False, half=False):
    folder = work / name
    shutil.rmtree(folder, ignore_errors=True)
    model = make_model(options, folder / "model")
    if half:
        model.half().save_pretrained(folder / "model")
        model.float()
    if old:
        rename(folder / "model")
    reduction = 2 ** (len(options["block_out_channels"]) - 1)
    generator = torch.Generator().manual_seed(4)
    levels = torch.randint(0, 256, (2, height, width, 3), generator=generator).float()
    latents = torch.randn(2, options["latent_channels"], height // reduction, width // reduction, generator=generator)
    save_file({"levels": levels, "latents": latents}, folder / "input.safetensors")
    subprocess.run([probe, folder / "model", folder / "input.safetensors", folder / "results.safetensors"], check=True)
    got = load_file(folder / "results.safetensors")
    with torch.no_grad():
        posterior = model.encode(levels.permute(0, 3, 1, 2) / 127.5 - 1).latent_dist
        decoded = model.decode(unscaled(latents, model.config)).sample
    errors = {"mean": error(got["mean"], posterior.mean), "std": error(got["std"], posterior.std),
              "decoded": error(got["decoded"], decoded)}
    print(f"{name}: " + ", ".join(f"{what} {value:.1e}" for what, value in errors.items()))
    return all(value <= LIMIT for value in errors.values())


def main():
    probe, work = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
    torch.set_num_threads(2)
    good = [compare(probe, work, "small", SMALL, 20, 28),
            compare(probe, work, "small_old_names", SMALL, 16, 16, old=True),
            compare(probe, work, "small_fp16", SMALL, 16, 12, half=True),
            compare(probe, work, "shifted", SHIFTED, 16, 24),
            compare(probe, work, "by_channel", BY_CHANNEL, 12, 16),
            compare(probe, work, "sd_64x64", SD, 64, 64),
            compare(probe, work, "sd_40x72", SD, 40, 72)]
    if not all(good):
        sys.exit(f"an error is above {LIMIT}")


if __name__ == "__main__":
    main()
