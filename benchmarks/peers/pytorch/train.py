#!/usr/bin/env python3
"""Trains the model of an angel-ptm configuration with transformers and PyTorch on the CPU, and times the steps.

    venv/bin/python benchmarks/peers/pytorch/train.py --config launch/configs/quickstart.textproto \
        --type bf16 --mode compiled --threads 2 --steps 5

Prints one JSON line.
"""

import argparse
import contextlib
import json
import re
import resource
import statistics
import time

import numpy
import torch
import transformers

ARITHMETIC = {"fp32": "fp32", "autocast": "bf16", "bf16": "bf16"}
END_OF_TEXT = 0


def read_textproto(text):
    """A nested dictionary; of a repeated field the last value."""
    tokens = re.findall(r'"[^"]*"|[\w.+-]+|[{}:]', re.sub(r"#.*", "", text))

    def block(i):
        fields = {}
        while i < len(tokens) and tokens[i] != "}":
            name, i = tokens[i], i + 1
            if tokens[i] == ":":
                i += 1
            if tokens[i] == "{":
                fields[name], i = block(i + 1)
            else:
                fields[name] = value(tokens[i])
            i += 1
        return fields, i

    def value(token):
        if token[0] == '"':
            return token[1:-1]
        try:
            return float(token) if re.search(r"[.e]", token) else int(token)
        except ValueError:
            return {"true": True, "false": False}.get(token, token)

    fields, end = block(0)
    if end != len(tokens):
        raise ValueError("a } without its {")
    return fields


def make_model(fields, sequence_length, experts):
    heads = fields["num_attention_heads"]
    settings = {
        "vocab_size": fields["vocab_size"],
        "hidden_size": fields["hidden_size"],
        "intermediate_size": fields["intermediate_size"],
        "num_hidden_layers": fields["num_hidden_layers"],
        "num_attention_heads": heads,
        "num_key_value_heads": fields.get("num_key_value_heads", heads),
        "head_dim": fields.get("head_dim", fields["hidden_size"] // heads),
        "max_position_embeddings": fields.get("max_position_embeddings", max(2048, sequence_length)),
        "initializer_range": fields.get("initializer_range", 0.02),
        "tie_word_embeddings": fields.get("tie_word_embeddings", False),
        "use_cache": False,
        "attn_implementation": "sdpa",
    }
    if fields.get("num_experts", 0) == 0:
        return transformers.HunYuanDenseV1ForCausalLM(transformers.HunYuanDenseV1Config(**settings))
    settings |= {
        "num_experts": fields["num_experts"],
        "moe_topk": fields["moe_topk"],
        "experts_implementation": experts,
    }
    return transformers.HunYuanMoEV1ForCausalLM(transformers.HunYuanMoEV1Config(**settings))


class Batches:
    """Windows of a token file (angel_ptm/data/FORMAT.md), one after the other."""

    def __init__(self, path, sequence_length, rows):
        header = numpy.fromfile(path, dtype="<u4", count=6)
        if header[:2].tobytes() != b"APTMTOKS" or header[2] != 1:
            raise ValueError(f"{path} should be a token file of version 1")
        count = int(header[4]) + (int(header[5]) << 32)
        dtype = "<u2" if header[3] == 2 else "<i4"
        self.tokens = numpy.memmap(path, dtype=dtype, mode="r", offset=4096, shape=(count,))
        self.length, self.rows, self.next = sequence_length, rows, 0

    def take(self):
        """Tokens and targets, [rows, length]."""
        windows = (len(self.tokens) - 1) // self.length
        rows = [(self.next + i) % windows * self.length for i in range(self.rows)]
        self.next += self.rows
        window = torch.tensor(numpy.stack([self.tokens[at : at + self.length + 1] for at in rows]).astype(numpy.int64))
        tokens = window[:, :-1].contiguous()
        return tokens, torch.where(tokens == END_OF_TEXT, -100, window[:, 1:])


class Training:
    def __init__(self, args):
        with open(args.config, encoding="utf-8") as file:
            config = read_textproto(file.read())
        batch = config.get("batch", {})
        length = config["data"].get("sequence_length", 1024)
        micro_batch = batch.get("micro_batch_sequences", 1)
        self.accumulation = batch.get("global_batch_sequences", 8) // micro_batch
        self.tokens_per_step = self.accumulation * micro_batch * length
        self.batches = Batches(config["data"]["directory"] + "/train.tokens", length, micro_batch)

        optimizer = config.get("optimizer", {})
        adamw = optimizer.get("adamw", {})
        self.clip_norm = optimizer.get("gradient_clip_norm", 1)
        torch.manual_seed(config.get("seed", 1))
        self.model = make_model(config["model"]["hunyuan_lm"], length, args.experts)
        if args.type == "bf16":
            self.model.to(torch.bfloat16)
        self.model.train()
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=adamw.get("learning_rate", 3e-4),
            betas=(adamw.get("beta1", 0.9), adamw.get("beta2", 0.95)),
            weight_decay=adamw.get("weight_decay", 0.1),
            fused=True,
        )
        self.autocast = contextlib.nullcontext()
        if args.type == "autocast":
            self.autocast = torch.autocast("cpu", dtype=torch.bfloat16)
        self.loss = torch.compile(self.loss_of) if args.mode == "compiled" else self.loss_of

    def loss_of(self, tokens, targets):
        logits = self.model(input_ids=tokens).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())

    def step(self):
        """(seconds, loss)"""
        start, total = time.perf_counter(), 0.0
        for _ in range(self.accumulation):
            tokens, targets = self.batches.take()
            with self.autocast:
                loss = self.loss(tokens, targets) / self.accumulation
            loss.backward()
            total += loss.item()
        if self.clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - start, total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="angel-ptm configuration; its paths are of this directory")
    parser.add_argument("--type", choices=ARITHMETIC, default="fp32", help="autocast: bf16 over fp32 parameters")
    parser.add_argument("--mode", choices=("eager", "compiled"), default="eager")
    parser.add_argument("--experts", choices=("grouped_mm", "eager", "batched_mm"), default="grouped_mm")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=2, help="steps that are not counted")
    parser.add_argument("--steps", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    training = Training(args)

    steps = [training.step() for _ in range(args.warmup + args.steps)]
    seconds, losses = [s[0] for s in steps[args.warmup :]], [s[1] for s in steps]
    line = {
        "who": "PyTorch",
        "type": ARITHMETIC[args.type],
        "mode": args.mode + (" autocast" if args.type == "autocast" else ""),
        "tokens_per_second": training.tokens_per_step / statistics.median(seconds),
        "seconds": seconds,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "loss": [losses[0], losses[-1]],
        "experts": args.experts,
        "threads": args.threads,
        "parameters": sum(p.numel() for p in training.model.parameters()),
        "versions": {m.__name__: m.__version__ for m in (torch, transformers, numpy)},
    }
    print(json.dumps(line))


main()
