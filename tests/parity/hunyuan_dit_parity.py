#!/usr/bin/env python3
"""Compares model.hunyuan_dit with diffusers' HunyuanDiT2DModel, alone and with a HunyuanDiT2DControlNetModel, with random
weights, both ways.

  hunyuan_dit_parity.py PROBE WORK_FOLDER

For a model as of version 1.1 and one as of 1.2, at two resolutions: writes the model and inputs, runs hunyuan_dit_probe,
and compares outputs (1e-5 of the largest), gradients of one batch (1e-4), latents sampled in five guided steps with
diffusers' schedulers from the same noise (1e-4) and the model that is exported again (equal). With a ControlNet the
gradients are those of what is trained of it.
Needs torch, diffusers and safetensors.
"""
import math
import pathlib
import shutil
import subprocess
import sys

import diffusers
import diffusers.pipelines.hunyuandit.pipeline_hunyuandit as pipeline
import torch
from diffusers.models.controlnets.controlnet_hunyuan import HunyuanDiT2DControlNetModel
from diffusers.models.embeddings import get_2d_rotary_pos_embed, get_2d_rotary_pos_embed_from_grid
from safetensors.torch import load_file, save_file

HEADS, HEAD_DIM, LAYERS, BATCH, BASE = 2, 88, 6, 2, 32
CLIP, CLIP_LENGTH, T5, T5_LENGTH, POOLED = 64, 12, 96, 10, 48
SCALE = 0.7  # of a ControlNet's effect on samples
CONFIG = """
model {{ hunyuan_dit {{
  height: {height} width: {width} hidden_size: {hidden} intermediate_size: {inner} num_hidden_layers: {layers}
  num_attention_heads: {heads} clip_hidden_size: {clip} clip_length: {clip_length} t5_hidden_size: {t5}
  t5_length: {t5_length} pooled_size: {pooled} size_and_style: {version1} control: {control}
}} }}
data {{ directory: "unused" }}
output {{ directory: "unused" }}
batch {{ global_batch_sequences: {batch} micro_batch_sequences: {batch} }}
numerics {{ threads_per_rank: 1 }}
memory {{ page_bytes: 65536 }}
"""


def error(got, want, beside=None):
    """Over the largest value of `want`, or of `beside`."""
    difference = (got.double() - want.double()).abs().max().item()
    largest = (want if beside is None else beside).double().abs().max().item()
    return difference / largest if math.isfinite(difference) else float("inf")


def gradient_error(name, got, wanted):
    """What moves all keys of a query alike changes no weight of attention: such a bias has no gradient but rounding,
    which is held against that of the weight beside it."""
    moves_all_keys = name.endswith(("attn2.norm_k.bias", "pooler.k_proj.bias"))
    beside = wanted[name.removesuffix("bias") + "weight"].grad if moves_all_keys else None
    return error(got, wanted[name].grad, beside)


def make_model(version1, height, control=False):
    """The model, or its ControlNet, of other weights than the model's."""
    torch.manual_seed(7 if control else 5)
    common = dict(
        num_attention_heads=HEADS, attention_head_dim=HEAD_DIM, in_channels=4, patch_size=2, sample_size=height,
        activation_fn="gelu-approximate", hidden_size=HEADS * HEAD_DIM, mlp_ratio=4.3637, cross_attention_dim=CLIP,
        cross_attention_dim_t5=T5, pooled_projection_dim=POOLED, text_len=CLIP_LENGTH, text_len_t5=T5_LENGTH,
        use_style_cond_and_image_meta_size=version1)
    if control:
        model = HunyuanDiT2DControlNetModel(transformer_num_layers=LAYERS, **common)
    else:
        model = diffusers.HunyuanDiT2DModel(num_layers=LAYERS, learn_sigma=True, **common)
    with torch.no_grad():
        for parameter in model.parameters():  # so that no norm is the identity
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval()


def rope(rows, columns, quiet=False):
    """Places from start on in steps of (stop - start) / n, as numpy's linspace without its end, for which diffusers'
    own function stands where start is 0."""
    start, stop = pipeline.get_resize_crop_region_for_grid((rows, columns), BASE)
    def places(axis, n):
        return start[axis] + torch.arange(n, dtype=torch.float64) * (stop[axis] - start[axis]) / n
    grid = torch.stack(torch.meshgrid(places(1, columns), places(0, rows), indexing="xy")).float()
    table = get_2d_rotary_pos_embed_from_grid(HEAD_DIM, grid.reshape(2, 1, *grid.shape[1:]), use_real=True)
    theirs = get_2d_rotary_pos_embed(HEAD_DIM, (start, stop), (rows, columns), output_type="pt")
    if not quiet:
        print(f"      places of diffusers' pipeline differ by {max(error(a, b) for a, b in zip(theirs, table)):.1e}")
    return table


def predict(model, controlnet, x, times, condition, scale=1.0, **conditions):
    """What the model makes of x, steered by the ControlNet if there is one."""
    samples = None
    if controlnet is not None:
        samples = list(controlnet(x, times, condition, conditioning_scale=scale, return_dict=False, **conditions)[0])
    return model(x, times, controlnet_block_samples=samples, **conditions).sample


def make_inputs(height, width, version1, control):
    torch.manual_seed(6)
    mask = lambda n: (torch.arange(n) < torch.tensor([[n - 3], [2]])).int()
    inputs = dict(latents=torch.randn(BATCH, 4, height, width), targets=torch.randn(BATCH, 4, height, width),
                  times=torch.tensor([17.0, 801.0]), clip=torch.randn(BATCH, CLIP_LENGTH, CLIP),
                  clip_mask=mask(CLIP_LENGTH), t5=torch.randn(BATCH, T5_LENGTH, T5), t5_mask=mask(T5_LENGTH),
                  empty_clip=torch.zeros(CLIP_LENGTH, CLIP), empty_clip_mask=torch.zeros(CLIP_LENGTH).int(),
                  empty_t5=torch.zeros(T5_LENGTH, T5), empty_t5_mask=torch.zeros(T5_LENGTH).int())
    if version1:
        inputs["sizes"] = torch.tensor([[1024, 768, 1024, 1024, 0, 0], [512, 512, 1024, 1024, 16, 8]]).float()
    if control:
        inputs["condition"] = torch.randn(BATCH, 4, height, width)
    return inputs


def run_theirs(model, controlnet, inputs, version1):
    height, width = inputs["latents"].shape[-2:]
    extra = dict(image_meta_size=inputs["sizes"].view(-1), style=torch.zeros(BATCH).long()) if version1 else {}
    out = predict(model, controlnet, inputs["latents"], inputs["times"], inputs.get("condition"),
                  encoder_hidden_states=inputs["clip"], text_embedding_mask=inputs["clip_mask"],
                  encoder_hidden_states_t5=inputs["t5"], text_embedding_mask_t5=inputs["t5_mask"],
                  image_rotary_emb=rope(height // 2, width // 2), **extra)
    loss = (out[:, :4] - inputs["targets"]).pow(2).mean()
    loss.backward()
    return out.detach(), loss.detach()


def scheduler_for(method):
    common = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.018, beta_schedule="scaled_linear",
                  prediction_type="v_prediction", timestep_spacing="trailing")
    if method == "ddim":
        return diffusers.DDIMScheduler(**common, clip_sample=False, set_alpha_to_one=True)
    if method == "ddpm":
        return diffusers.DDPMScheduler(**common, clip_sample=False, variance_type="fixed_small")
    return diffusers.DPMSolverMultistepScheduler(**common, algorithm_type="dpmsolver++", solver_order=2,
                                                 solver_type="midpoint", final_sigmas_type="zero")


@torch.no_grad()
def sample(model, controlnet, inputs, version1, method, noise):
    """As diffusers' pipelines do it: the empty caption leads away, under the same condition; the learned variance is
    dropped."""
    height, width = noise.shape[-2:]
    texts = {name: torch.cat([inputs["empty_" + name].expand_as(inputs[name]), inputs[name]])
             for name in ("clip", "clip_mask", "t5", "t5_mask")}
    extra = dict(image_meta_size=inputs["sizes"].repeat(2, 1).view(-1),
                 style=torch.zeros(2 * BATCH).long()) if version1 else {}
    scheduler = scheduler_for(method)
    scheduler.set_timesteps(len(noise) - 1)
    drawn = iter(noise[1:])
    # DDPM draws its noise itself.
    sys.modules["diffusers.schedulers.scheduling_ddpm"].randn_tensor = lambda shape, **_: next(drawn).reshape(shape)
    x = noise[0]
    condition = inputs["condition"].repeat(2, 1, 1, 1) if controlnet is not None else None
    for time in scheduler.timesteps:
        out = predict(model, controlnet, torch.cat([x, x]), time.float().expand(2 * BATCH), condition, scale=SCALE,
                      encoder_hidden_states=texts["clip"], text_embedding_mask=texts["clip_mask"],
                      encoder_hidden_states_t5=texts["t5"], text_embedding_mask_t5=texts["t5_mask"],
                      image_rotary_emb=rope(height // 2, width // 2, quiet=True), **extra)[:, :4]
        away, towards = out.chunk(2)
        x = scheduler.step(away + 3 * (towards - away), time, x).prev_sample
    return x


def trained_of(model, controlnet):
    """Parameters that have a gradient, under our names of gradients."""
    if controlnet is None:
        return dict(model.named_parameters())
    # The blocks and the projections; the embedders, and all of the model, are frozen.
    frozen = ("text_embed", "pos_embed.", "time_extra_emb.")
    return {"controlnet." + name: value for name, value in controlnet.named_parameters()
            if not name.startswith(frozen)}


def is_same(model, folder):
    """Whether the folder has the model's weights."""
    other = type(model).from_pretrained(folder, low_cpu_mem_usage=False).state_dict()
    mine = model.state_dict()
    return len(mine) == len(other) and all(torch.equal(value, other[name]) for name, value in mine.items())


def compare(probe, work, version1, height, width, control):
    name = f"{'v1.1' if version1 else 'v1.2'}{'_control' if control else ''}_{height}x{width}"
    folder = work / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model, inputs = make_model(version1, height), make_inputs(height, width, version1, control)
    controlnet = make_model(version1, height, control=True) if control else None
    model.save_pretrained(folder / "pipeline" / "transformer")
    if control:
        controlnet.save_pretrained(folder / "pipeline" / "controlnet")
    save_file(inputs, folder / "input.safetensors")
    (folder / "config.textproto").write_text(CONFIG.format(
        height=height, width=width, hidden=HEADS * HEAD_DIM, inner=int(HEADS * HEAD_DIM * 4.3637), layers=LAYERS,
        heads=HEADS, clip=CLIP, clip_length=CLIP_LENGTH, t5=T5, t5_length=T5_LENGTH, pooled=POOLED, batch=BATCH,
        version1=str(version1).lower(), control=str(control).lower()))
    print(name)
    subprocess.run([probe, "--config", folder / "config.textproto", "--model", folder / "pipeline", "--controlnet",
                    folder / "pipeline", "--control-scale", str(SCALE), "--input", folder / "input.safetensors",
                    "--output", folder / "ours"], check=True)
    out, loss = run_theirs(model, controlnet, inputs, version1)
    ours = load_file(folder / "ours" / "results.safetensors")
    wanted = trained_of(model, controlnet)
    got = {name.removeprefix("grad/") for name in ours if name.startswith("grad/")}
    gradients = {name: gradient_error(name, ours["grad/" + name], wanted) for name in got & set(wanted)}
    worst = max(gradients, key=gradients.get)
    same = is_same(model, folder / "ours" / "export")
    if control:
        same = same and is_same(controlnet, folder / "ours" / "export_controlnet")
    checks = [("outputs", error(ours["prediction"], out), 1e-5), ("loss", error(ours["loss"], loss.reshape(1)), 1e-5),
              (f"gradients, worst of {len(gradients)}: {worst}", gradients[worst], 1e-4),
              ("tensors without a gradient of the same name", len(got ^ set(wanted)), 0),
              ("exported and loaded again", 0 if same else 1, 0)]
    for method in ("ddpm", "ddim", "dpm-solver"):
        got = ours["sampled/" + method]
        wanted_latents = sample(model, controlnet, inputs, version1, method,
                                ours[f"sampled/{method}/noise"])
        checks.append((f"five steps of {method}", error(got, wanted_latents), 1e-4))
    for what, value, allowed in checks:
        print(f"{'ok' if value <= allowed else 'FAIL':4}  {what:80} {value:.1e} <= {allowed:.0e}")
    return all(value <= allowed for _, value, allowed in checks)


def main():
    probe, work = sys.argv[1], pathlib.Path(sys.argv[2])
    results = [compare(probe, work, version1, height, width, control) for control in (False, True)
               for version1 in (False, True) for height, width in ((16, 16), (12, 20))]
    if not all(results):
        sys.exit(f"hunyuan_dit_parity: differs from diffusers {diffusers.__version__}")


if __name__ == "__main__":
    main()
