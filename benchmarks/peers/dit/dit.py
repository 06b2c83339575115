#!/usr/bin/env python3
"""model.dit with classes or captions and a flow's objective in PyTorch (model.py): the same prepared images, objective, AdamW,
schedule, clipping, average of the weights and sampler as angel-ptm's, read from the same configuration.

    dit.py train   --config launch/configs/fashion_mnist.textproto --output weights.pt
    dit.py sample  --weights weights.pt --images 100 --output samples      as `angel-ptm generate` writes them
    dit.py compare --checkpoint RUN/checkpoints/step-N --samples DIR       its weights here, beside what it sampled itself
    dit.py speed   --config ... --steps 20 --warmup 5                      prints one JSON line

Arithmetic is the configuration's: fp32, or with numerics.compute BF16 autocast over fp32 parameters. `train --seconds` ends then,
and the learning rate follows the clock instead of the steps. Prompts are classes by number, or captions of the images.
"""

import argparse
import contextlib
import json
import math
import os
import random
import sys
import time

import numpy
import safetensors
import torch
from torch import nn
from torch.nn import functional

sys.path += [os.path.dirname(os.path.dirname(os.path.abspath(__file__))), os.path.dirname(os.path.abspath(__file__))]
import prepared
import workload
from model import Dit, Settings

BATCH = 64  # images that are sampled side by side, each with and without its class


def arithmetic(s):
    return torch.autocast("cpu", dtype=torch.bfloat16) if s.bf16 else contextlib.nullcontext()


def caption_row(s, tokens):
    tokens = tokens[: s.text_length]
    return [len(tokens), *tokens, *[0] * (s.text_length - len(tokens))] if tokens else s.none


def rows_of(s, prompts):
    """Of classes by name or number, or of captions of the images, whose tokens are known."""
    images = prepared.ImageSet(s.data)
    if not s.text_length:
        return [[images.classes.index(prompt) if prompt in images.classes else int(prompt)] for prompt in prompts]
    tokens, unknown = images.tokens_of(), ""
    for unknown in (prompt for prompt in prompts if prompt not in tokens):
        sys.exit(f"dit.py: wanted captions of the images in {s.data} as prompts, got {unknown!r}")
    return [caption_row(s, tokens[prompt]) for prompt in prompts]


class Training:
    def __init__(self, s, compiled=False):
        torch.manual_seed(s.seed)
        self.s, self.model = s, Dit(s)
        self.forward = torch.compile(self.model) if compiled else self.model
        self.parameters = list(self.model.parameters())
        self.average = [p.detach().clone() for p in self.parameters]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=s.rate, betas=s.betas, eps=s.eps, weight_decay=0, fused=True)
        self.set, self.random, self.none = prepared.ImageSet(s.data), random.Random(s.seed), torch.tensor(s.none)
        self.pixels = torch.from_numpy(self.set.pixels)
        self.order, self.next, self.done = torch.randperm(len(self.pixels)), 0, 0

    def row(self, image):
        """Its class, or one of its captions: in a random language, the first or, as often as asked, any."""
        if not self.s.text_length:
            return [self.set.class_ids[image]]
        by_language = [captions for captions in self.set.captions[image] if captions]
        captions = self.random.choice(by_language)
        other = self.random.random() < self.s.other_captions
        return caption_row(self.s, (self.random.choice(captions) if other else captions[0])[1])

    def take(self):
        if self.next + self.s.batch > len(self.order):
            self.order, self.next = torch.randperm(len(self.pixels)), 0
        chosen = self.order[self.next : self.next + self.s.batch]
        self.next += self.s.batch
        return self.pixels[chosen].float() / 127.5 - 1, torch.tensor([self.row(i) for i in chosen.tolist()])

    def step(self, share=None):
        s = self.s
        clean, rows = self.take()
        noise = torch.randn_like(clean)
        time_of = torch.sigmoid(s.time_mean + s.time_deviation * torch.randn(s.batch))
        rows = torch.where((torch.rand(s.batch) < s.dropout)[:, None], self.none, rows)
        t = time_of[:, None, None, None]
        with arithmetic(s):
            predicted = self.forward((1 - t) * clean + t * noise, time_of, rows)
        loss = functional.mse_loss(predicted.float(), noise - clean)
        loss.backward()
        if s.clip > 0:
            nn.utils.clip_grad_norm_(self.parameters, s.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = s.learning_rate(self.done, share)
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
def sample(model, rows, numbers, steps, guidance, seed):
    """Pixels [N, C, H, W]; sample numbers[i] is conditioned on rows[i]. Euler from 1 to 0."""
    s, made = model.s, []
    shape = (s.channels, s.size, s.size)
    for first in range(0, len(rows), BATCH):
        conditions = torch.tensor(rows[first : first + BATCH])
        x = torch.from_numpy(numpy.stack([start_noise(seed, n, math.prod(shape)) for n in numbers[first : first + BATCH]]))
        x = x.view(-1, *shape)
        both = torch.cat((conditions, torch.tensor(s.none).expand_as(conditions)))
        for i in range(steps):
            time_of = torch.full((len(both),), (steps - i) / steps)
            with arithmetic(s):
                given, free = model(torch.cat((x, x)), time_of, both).float().chunk(2)
            x = x - (free + guidance * (given - free)) / steps
        made.append(((x + 1) * 127.5).round().clamp(0, 255).byte())
        print(f"{min(first + BATCH, len(rows))} of {len(rows)} images", file=sys.stderr, flush=True)
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
    return renamed.removesuffix(".weight") if "_proj." in renamed or "embed" in renamed else renamed


def train(args):
    s = Settings(args.fields)
    training = Training(s, args.compiled)
    until = f"{args.seconds:.0f} s" if args.seconds else f"{s.steps} steps"
    print(f"{sum(p.numel() for p in training.parameters)} parameters, {until} of {s.batch} images a step", flush=True)
    start, warm, losses, last = time.perf_counter(), 0, [], False
    while not last:
        elapsed = time.perf_counter() - start
        warm = elapsed if training.done <= s.warmup else warm
        losses.append(training.step((elapsed - warm) / max(1e-9, args.seconds - warm) if args.seconds else None))
        elapsed = time.perf_counter() - start
        last = elapsed >= args.seconds if args.seconds else training.done == s.steps
        if training.done % 100 == 0 or last:
            mean = sum(losses[-100:]) / len(losses[-100:])
            print(f"step {training.done - 1}  loss {mean:.4f}  {elapsed:.0f} s of {until}", flush=True)
    if s.ema_decay > 0:
        for parameter, average in zip(training.parameters, training.average):
            parameter.data = average
    facts = {"parameters": sum(p.numel() for p in training.parameters), "steps": training.done,
             "seconds": time.perf_counter() - start, "last_loss": sum(losses[-100:]) / len(losses[-100:])}
    torch.save({"config": args.fields, "weights": training.model.state_dict(), "facts": facts}, args.output)


def write_samples(args):
    stored = torch.load(args.weights)
    s = Settings(stored["config"])
    model = Dit(s)
    model.load_state_dict(stored["weights"])
    prompts = [str(label) for label in range(s.classes)]
    if args.prompts:
        with open(args.prompts, encoding="utf-8") as file:
            prompts = file.read().splitlines()
    prompts = [prompt for prompt in prompts for _ in range(args.images)]
    made = sample(model, rows_of(s, prompts), range(len(prompts)), args.steps, args.guidance, args.seed)
    prepared.write_samples(args.output, made, prompts)
    print(json.dumps(stored["facts"]))


def compare(args):
    s, weights = of_checkpoint(args.checkpoint)
    s.bf16 = False
    model = Dit(s)
    model.load_state_dict({name: weights.pop(name_of(name)) for name in model.state_dict()})
    if weights:
        sys.exit(f"dit.py: the checkpoint has parameters that the model here lacks: {', '.join(weights)}")
    pixels, prompts, facts = prepared.read_samples(args.samples, s.channels)
    chosen = list(range(0, len(prompts), max(1, len(prompts) // 40)))[:40]
    rows = rows_of(s, [prompts[i] for i in chosen])
    here = sample(model, rows, chosen, facts["steps"], facts["guidance"], facts["seed"])
    apart = numpy.abs(here.astype(int) - pixels[chosen].astype(int))
    chance = numpy.abs(here.astype(int) - pixels[numpy.roll(chosen, max(1, len(chosen) // 20))].astype(int))
    print(json.dumps({"images": len(chosen), "mean_levels": apart.mean(), "largest_mean_of_an_image": apart.mean((1, 2, 3)).max(),
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
    parser.add_argument("--seconds", type=float, default=0, help="that training takes; 0: the configuration's steps")
    parser.add_argument("--prompts", help="a file with one in each line; default: all classes")
    parser.add_argument("--images", type=int, default=1, help="of each prompt")
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
