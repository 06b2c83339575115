#!/usr/bin/env python3
"""model.dit with classes and a flow's objective (angel_ptm/model/dit.h) in PyTorch: the same layers, parameters, initial
deviations, objective, AdamW, schedule, clipping, average of the weights and sampler, read from the same configuration.

    dit.py train   --config launch/configs/fashion_mnist.textproto --output weights.pt
    dit.py sample  --weights weights.pt --images 100 --output samples      as `angel-ptm generate` writes them
    dit.py compare --checkpoint RUN/checkpoints/step-N --samples DIR       its weights here, beside what it sampled itself
    dit.py speed   --config ... --steps 20 --warmup 5                      prints one JSON line

Arithmetic is the configuration's: fp32, or with numerics.compute BF16 autocast over fp32 parameters.
"""

import argparse
import contextlib
import json
import math
import os
import sys
import time

import numpy
import safetensors
import torch
from torch import nn
from torch.nn import functional

sys.path += [os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "peers"),
             os.path.dirname(os.path.abspath(__file__))]
import images
import workload

TIME_FEATURES = 256
DIFFUSION_STEPS = 1000
BATCH = 64  # images that are sampled side by side, each with and without its class


class Settings:
    """What a configuration asks for. What this program does not do is refused."""

    def __init__(self, config):
        dit, optimizer = config["model"]["dit"], config.get("optimizer", {})
        adamw, schedule = optimizer.get("adamw", {}), optimizer.get("schedule", {})
        self.channels, self.size, self.patch = dit.get("channels", 3), dit["height"], dit.get("patch_size", 2)
        self.hidden, self.layers, self.heads = (dit[k] for k in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
        self.inner = dit.get("intermediate_size", 0) or 4 * self.hidden  # 0 stands for it
        self.classes, self.theta = dit["class_count"], dit.get("rope_theta", 256)
        self.deviation = dit.get("initializer_range", 0.02)
        self.time_mean, self.time_deviation = dit.get("flow_time_mean", 0), dit.get("flow_time_deviation", 1)
        self.dropout = dit.get("condition_dropout", 0.1)
        self.rate, self.eps = adamw.get("learning_rate", 3e-4), adamw.get("epsilon", 1e-8)
        self.betas = adamw.get("beta1", 0.9), adamw.get("beta2", 0.95)
        self.clip = optimizer.get("gradient_clip_norm", 1)
        self.warmup, self.final = schedule.get("warmup_steps", 100), schedule.get("final_learning_rate_ratio", 0.1)
        self.ema_decay = optimizer.get("ema_decay", 0)
        self.batch = config["batch"]["global_batch_sequences"]
        self.steps, self.seed = config.get("steps", 1000), config.get("seed", 1)
        self.bf16 = config.get("numerics", {}).get("compute", "FP32") == "BF16"
        for name, got, wanted in (
            ("model.dit.prediction", dit.get("prediction", "FLOW"), "FLOW"),
            ("model.dit.text_length", dit.get("text_length", 0), 0),
            ("model.dit.flow_shift", dit.get("flow_shift", 1), 1),
            ("model.dit.flip_probability", dit.get("flip_probability", 0), 0),
            ("model.dit.width", dit.get("width", 0) or self.size, self.size),
            ("optimizer.adamw.weight_decay", adamw.get("weight_decay", 0.1), 0),
            ("optimizer.schedule.kind", schedule.get("kind", "COSINE"), "COSINE"),
        ):
            if got != wanted:
                sys.exit(f"dit.py: {name}: this program knows one value, wanted {wanted}, got {got}")

    def learning_rate(self, step):
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        progress = min(1, (step - self.warmup) / max(1, self.steps - 1 - self.warmup))
        return self.rate * (self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress)))


def modulated(x, shift, scale):
    return functional.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


class RmsNorm(nn.Module):
    """PyTorch's, but its weight is of the type of what it multiplies: otherwise autocast takes the slow path."""

    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return functional.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), eps=1e-6)


class Attention(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.heads = s.heads
        self.qkv_proj = nn.Linear(s.hidden, 3 * s.hidden, bias=False)
        self.o_proj = nn.Linear(s.hidden, s.hidden, bias=False)
        self.q_norm, self.k_norm = RmsNorm(s.hidden // s.heads), RmsNorm(s.hidden // s.heads)

    def forward(self, x, cos, sin):
        batch, tokens, hidden = x.shape
        q, k, v = self.qkv_proj(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)

        def turned(heads):
            first, second = heads.chunk(2, -1)
            return torch.cat((first * cos - second * sin, second * cos + first * sin), -1).to(v.dtype)

        o = functional.scaled_dot_product_attention(turned(self.q_norm(q)), turned(self.k_norm(k)), v)
        return self.o_proj(o.transpose(1, 2).reshape(batch, tokens, hidden))


class Mlp(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.up_proj = nn.Linear(s.hidden, s.inner, bias=False)
        self.down_proj = nn.Linear(s.inner, s.hidden, bias=False)

    def forward(self, x):
        return self.down_proj(functional.gelu(self.up_proj(x), approximate="tanh"))


class Layer(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.modulation = nn.Linear(s.hidden, 6 * s.hidden)
        self.self_attn, self.mlp = Attention(s), Mlp(s)

    def forward(self, x, condition, cos, sin):
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = self.modulation(condition).unsqueeze(1).chunk(6, -1)
        x = x + gate * self.self_attn(modulated(x, shift, scale), cos, sin)
        return x + mlp_gate * self.mlp(modulated(x, mlp_shift, mlp_scale))


class Dit(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.s, features = s, s.channels * s.patch**2
        self.time = nn.ModuleDict({"in_proj": nn.Linear(TIME_FEATURES, s.hidden),
                                   "out_proj": nn.Linear(s.hidden, s.hidden, bias=False)})
        self.class_embedding = nn.Embedding(s.classes + 1, s.hidden)
        self.patch_proj = nn.Linear(features, s.hidden)
        self.layers = nn.ModuleList(Layer(s) for _ in range(s.layers))
        self.head = nn.ModuleDict({"modulation": nn.Linear(s.hidden, 2 * s.hidden), "out": nn.Linear(s.hidden, features)})
        for name, parameter in self.named_parameters():
            if "norm" in name:
                continue
            if name.endswith("bias") or "modulation" in name or name.startswith("head."):
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=s.deviation)
        cos, sin = self.rope(s)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.register_buffer("frequencies", self.time_frequencies(), persistent=False)

    @staticmethod
    def rope(s):
        """[tokens, head_dim / 2]: the first half of the pairs turns with the row, the other with the column."""
        side, quarter = s.size // s.patch, s.hidden // s.heads // 4
        frequencies = s.theta ** -(torch.arange(quarter, dtype=torch.float64) / quarter)
        place = torch.arange(side, dtype=torch.float64)
        rows, columns = place.repeat_interleave(side), place.repeat(side)
        angles = torch.cat((torch.outer(rows, frequencies), torch.outer(columns, frequencies)), 1)
        return angles.cos().float(), angles.sin().float()

    @staticmethod
    def time_frequencies():
        half = TIME_FEATURES // 2
        return (10000.0 ** -(torch.arange(half, dtype=torch.float64) / half)).float()

    def patches(self, x):
        p, side = self.s.patch, self.s.size // self.s.patch
        x = x.view(-1, self.s.channels, side, p, side, p).permute(0, 2, 4, 1, 3, 5)
        return x.reshape(-1, side * side, self.s.channels * p * p)

    def unpatched(self, x):
        p, side = self.s.patch, self.s.size // self.s.patch
        x = x.view(-1, side, side, self.s.channels, p, p).permute(0, 3, 1, 4, 2, 5)
        return x.reshape(-1, self.s.channels, self.s.size, self.s.size)

    def forward(self, x, time, labels):
        """x [B, C, H, W]; time [B], 0 to 1, 1 is noise; labels [B], s.classes is none."""
        angles = DIFFUSION_STEPS * time[:, None] * self.frequencies
        condition = self.time["in_proj"](torch.cat((angles.cos(), angles.sin()), 1))
        condition = functional.silu(self.time["out_proj"](functional.silu(condition)) + self.class_embedding(labels))
        x = self.patch_proj(self.patches(x))
        for layer in self.layers:
            x = layer(x, condition, self.cos, self.sin)
        shift, scale = self.head["modulation"](condition).unsqueeze(1).chunk(2, -1)
        return self.unpatched(self.head["out"](modulated(x, shift, scale)))


def arithmetic(s):
    return torch.autocast("cpu", dtype=torch.bfloat16) if s.bf16 else contextlib.nullcontext()


class Training:
    def __init__(self, s, compiled=False):
        torch.manual_seed(s.seed)
        self.s, self.model = s, Dit(s)
        self.forward = torch.compile(self.model) if compiled else self.model
        self.parameters = list(self.model.parameters())
        self.average = [p.detach().clone() for p in self.parameters]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=s.rate, betas=s.betas, eps=s.eps, weight_decay=0, fused=True)
        pixels, labels = images.real("train")
        self.pixels, self.labels = torch.from_numpy(pixels), torch.from_numpy(labels).long()
        self.order, self.next, self.done = torch.randperm(len(self.labels)), 0, 0

    def take(self):
        if self.next + self.s.batch > len(self.order):
            self.order, self.next = torch.randperm(len(self.labels)), 0
        chosen = self.order[self.next : self.next + self.s.batch]
        self.next += self.s.batch
        return self.pixels[chosen].float() / 127.5 - 1, self.labels[chosen]

    def step(self):
        s = self.s
        clean, labels = self.take()
        noise = torch.randn_like(clean)
        time_of = torch.sigmoid(s.time_mean + s.time_deviation * torch.randn(s.batch))
        labels = torch.where(torch.rand(s.batch) < s.dropout, s.classes, labels)
        t = time_of[:, None, None, None]
        with arithmetic(s):
            predicted = self.forward((1 - t) * clean + t * noise, time_of, labels)
        loss = functional.mse_loss(predicted.float(), noise - clean)
        loss.backward()
        if s.clip > 0:
            nn.utils.clip_grad_norm_(self.parameters, s.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = s.learning_rate(self.done)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.done += 1
        if s.ema_decay > 0:
            with torch.no_grad():
                torch._foreach_lerp_(self.average, self.parameters, 1 - min(s.ema_decay, self.done / (self.done + 9)))
        return loss.item()


def start_noise(seed, sample, count):
    """x_T of a sample as angel-ptm draws it (angel_ptm/train/diffusion/noise.h)."""
    mask, purpose = numpy.uint64(0xFFFFFFFF), 0x104
    blocks = numpy.arange((count + 3) // 4, dtype=numpy.uint64)
    c = [blocks] + [numpy.full_like(blocks, word) for word in (sample & 0xFFFFFFFF, sample >> 32, purpose)]
    k = [numpy.uint64(seed & 0xFFFFFFFF), numpy.uint64(seed >> 32)]
    for _ in range(10):  # Philox 4x32-10 (Salmon et al. 2011)
        a, b = numpy.uint64(0xD2511F53) * c[0], numpy.uint64(0xCD9E8D57) * c[2]
        high = numpy.uint64(32)
        c = [(b >> high) ^ c[1] ^ k[0], b & mask, (a >> high) ^ c[3] ^ k[1], a & mask]
        k = [(k[0] + numpy.uint64(0x9E3779B9)) & mask, (k[1] + numpy.uint64(0xBB67AE85)) & mask]
    uniform = (numpy.stack(c).astype(numpy.float64) + 0.5) * 2.0**-32
    radius, angle = numpy.sqrt(-2 * numpy.log(uniform[0::2])), 2 * math.pi * uniform[1::2]
    normal = numpy.stack((radius * numpy.cos(angle), radius * numpy.sin(angle)), 1)  # [pair, which, block]
    return normal.transpose(2, 0, 1).reshape(-1)[:count].astype(numpy.float32)


@torch.no_grad()
def sample(model, labels, numbers, steps, guidance, seed):
    """Pixels [N, H, W]; sample numbers[i] is of class labels[i]. Euler from 1 to 0."""
    s, made = model.s, []
    shape = (s.channels, s.size, s.size)
    for first in range(0, len(labels), BATCH):
        classes = torch.tensor(labels[first : first + BATCH])
        x = torch.from_numpy(numpy.stack([start_noise(seed, n, math.prod(shape)) for n in numbers[first : first + BATCH]]))
        x = x.view(-1, *shape)
        both = torch.cat((classes, torch.full_like(classes, s.classes)))
        for i in range(steps):
            time_of = torch.full((len(both),), (steps - i) / steps)
            with arithmetic(s):
                given, free = model(torch.cat((x, x)), time_of, both).float().chunk(2)
            x = x - (free + guidance * (given - free)) / steps
        made.append(((x[:, 0] + 1) * 127.5).round().clamp(0, 255).byte())
    return torch.cat(made).numpy()


def of_checkpoint(folder):
    """Its settings, and the average of its weights by name (angel_ptm/checkpoint/FORMAT.md)."""
    with open(os.path.join(folder, "manifest.json"), encoding="utf-8") as file:
        manifest = json.load(file)
    vectors = {}
    for entry in manifest["rank_files"]:
        with safetensors.safe_open(os.path.join(folder, entry["name"]), "pt") as file:
            for name in file.keys():
                vectors.setdefault(name, []).append(file.get_tensor(name))
    weights = {}
    for unit in manifest["units"]:
        vector = torch.cat(vectors["ema/" + unit["name"]])
        for parameter in unit["parameters"]:
            shape, at = parameter["shape"], parameter["offset"]
            weights[parameter["name"]] = vector[at : at + math.prod(shape)].view(shape)
    return Settings(workload.read_textproto(manifest["model_config"])), weights


def name_of(name):
    """angel-ptm's name of a parameter here."""
    renamed = {"patch_proj.bias": "patch_bias", "time.in_proj.bias": "time.bias"}.get(name, name)
    return renamed.removesuffix(".weight") if "_proj." in renamed or "class_" in renamed else renamed


def train(args):
    s = Settings(args.fields)
    training = Training(s, args.compiled)
    print(f"{sum(p.numel() for p in training.parameters)} parameters, {s.steps} steps of {s.batch} images", flush=True)
    start, losses = time.perf_counter(), []
    for step in range(s.steps):
        losses.append(training.step())
        if (step + 1) % 100 == 0 or step + 1 == s.steps:
            last = losses[-100:]
            print(f"step {step}/{s.steps}  loss {sum(last) / len(last):.4f}  {time.perf_counter() - start:.0f} s", flush=True)
    if s.ema_decay > 0:
        for parameter, average in zip(training.parameters, training.average):
            parameter.data = average
    facts = {"parameters": sum(p.numel() for p in training.parameters), "steps": s.steps,
             "seconds": time.perf_counter() - start, "last_loss": sum(losses[-100:]) / len(losses[-100:])}
    torch.save({"config": args.fields, "weights": training.model.state_dict(), "facts": facts}, args.output)


def write_samples(args):
    stored = torch.load(args.weights)
    s = Settings(stored["config"])
    model = Dit(s)
    model.load_state_dict(stored["weights"])
    labels = [i // args.images for i in range(s.classes * args.images)]
    made = sample(model, labels, range(len(labels)), args.steps, args.guidance, args.seed)
    images.write(args.output, made, labels)
    print(json.dumps(stored["facts"]))


def compare(args):
    s, weights = of_checkpoint(args.checkpoint)
    s.bf16 = False
    model = Dit(s)
    model.load_state_dict({name: weights.pop(name_of(name)) for name in model.state_dict()})
    if weights:
        sys.exit(f"dit.py: the checkpoint has parameters that the model here lacks: {', '.join(weights)}")
    pixels, labels, facts = images.read(args.samples)
    chosen = list(range(0, len(labels), max(1, len(labels) // 40)))[:40]
    here = sample(model, [labels[i] for i in chosen], chosen, facts["steps"], facts["guidance"], facts["seed"])
    apart = numpy.abs(here.astype(int) - pixels[chosen].astype(int))
    chance = numpy.abs(here.astype(int) - pixels[numpy.roll(chosen, len(chosen) // 20)].astype(int))
    print(json.dumps({"images": len(chosen), "mean_levels": apart.mean(), "largest_mean_of_an_image": apart.mean((1, 2)).max(),
                      "mean_levels_of_others": chance.mean()}))


def speed(args):
    s = Settings(args.fields)
    training = Training(s, args.compiled)
    seconds = []
    for _ in range(args.warmup + args.steps):
        start = time.perf_counter()
        training.step()
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"seconds": seconds[args.warmup :], "images_per_step": s.batch}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "sample", "compare", "speed"))
    parser.add_argument("--config")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="over the configuration")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--weights")
    parser.add_argument("--output")
    parser.add_argument("--checkpoint")
    parser.add_argument("--samples")
    parser.add_argument("--images", type=int, default=100, help="of each class")
    parser.add_argument("--steps", type=int, default=20, help="of the sampler, or that are timed")
    parser.add_argument("--guidance", type=float, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--compiled", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.config:
        with open(args.config, encoding="utf-8") as file:
            args.fields = workload.read_textproto(file.read())
        for setting in args.set:
            workload.set_field(args.fields, setting)
    {"train": train, "sample": write_samples, "compare": compare, "speed": speed}[args.what](args)


main()
