#!/usr/bin/env python3
"""Replays diffusion_probe's samplers with diffusers' schedulers and compares every step.

  diffusers_parity.py DUMP.safetensors

Fails where x differs by more than 1e-5 of its largest value. Needs torch, diffusers and safetensors.
"""
import sys

import diffusers
import torch
from safetensors.torch import load_file

TOLERANCE = 1e-5
BETAS = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.02, beta_schedule="scaled_linear")


def difference(ours, theirs):
    return ((ours.double() - theirs.double()).abs().max() / theirs.double().abs().max()).item()


def scheduler_for(sampler, prediction, spacing):
    common = dict(BETAS, prediction_type=prediction, timestep_spacing=spacing)
    if sampler.startswith("ddim"):
        return diffusers.DDIMScheduler(**common, clip_sample=False, set_alpha_to_one=True)
    if sampler.startswith("ddpm"):
        variance = "learned_range" if sampler == "ddpm_learned" else "fixed_small"
        return diffusers.DDPMScheduler(**common, clip_sample=False, variance_type=variance)
    return diffusers.DPMSolverMultistepScheduler(**common, algorithm_type="dpmsolver++", solver_order=2,
                                                 solver_type="midpoint", final_sigmas_type="zero")


def step(scheduler, sampler, time, output, noise, x):
    if sampler == "ddim_eta":
        return scheduler.step(output[0], time, x, eta=1.0, variance_noise=noise).prev_sample
    if sampler.startswith("ddpm"):
        # As one image [1, channels, n]: learned variance is the second half of the model's channels.
        channels = 2 if sampler == "ddpm_learned" else 1
        return scheduler.step(output[None, :channels], time, x[None, None]).prev_sample[0, 0]
    return scheduler.step(output[0], time, x).prev_sample


def replay(name, dump):
    sampler = name.split("/")[0]
    if sampler == "flow":
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=3.0)
        count = dump[f"{name}/path"].shape[0]
        scheduler.set_timesteps(sigmas=[1 - i / count for i in range(count)])
        times = difference(dump[f"{name}/times"], scheduler.sigmas)
    else:
        scheduler = scheduler_for(*name.split("/"))
        scheduler.set_timesteps(dump[f"{name}/path"].shape[0])
        times = difference(dump[f"{name}/times"], scheduler.timesteps)
    noises = iter(dump[f"{name}/noise"])
    noise = None
    # DDPM draws its noise itself.
    module = sys.modules["diffusers.schedulers.scheduling_ddpm"]
    module.randn_tensor = lambda shape, **_: noise.reshape(shape)
    x, worst = dump[f"{name}/start"], times
    for i, time in enumerate(scheduler.timesteps):
        noise = next(noises)
        if sampler == "ddpm_learned" and time > 0 and i + 1 == len(scheduler.timesteps):
            break  # diffusers adds noise in the step to the clean image where that does not start at time 0; we never do
        x = step(scheduler, sampler, time, dump[f"{name}/outputs"][i], noise, x)
        worst = max(worst, difference(dump[f"{name}/path"][i], x))
        x = dump[f"{name}/path"][i]
    return worst


def compare_noising(dump):
    scheduler = diffusers.DDPMScheduler(**BETAS)
    results = {"alpha_bars": difference(dump["alpha_bars"], scheduler.alphas_cumprod)}
    for t in (0, 300, 999):
        time = torch.tensor([t])
        results[f"add_noise/{t}"] = difference(dump[f"add_noise/{t}"],
                                               scheduler.add_noise(dump["clean"], dump["eps"], time))
        results[f"velocity/{t}"] = difference(dump[f"velocity/{t}"],
                                              scheduler.get_velocity(dump["clean"], dump["eps"], time))
    return results


def main():
    dump = load_file(sys.argv[1])
    results = compare_noising(dump)
    for key in sorted(dump):
        if key.endswith("/path"):
            name = key.removesuffix("/path")
            results[name] = replay(name, dump)
    for name, worst in results.items():
        print(f"{name:32s} {worst:.1e} {'ok' if worst <= TOLERANCE else 'DIFFERS'}")
    if any(worst > TOLERANCE for worst in results.values()):
        sys.exit(f"diffusers_parity: differs by more than {TOLERANCE} of diffusers {diffusers.__version__}")


if __name__ == "__main__":
    main()
