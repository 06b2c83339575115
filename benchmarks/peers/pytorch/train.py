#!/usr/bin/env python3
"""Trains the model of an angel-ptm configuration with transformers and PyTorch on the CPU, and times the steps.

    venv/bin/python benchmarks/peers/pytorch/train.py --config launch/configs/quickstart.textproto \
        --type bf16 --mode compiled --threads 2 --steps 5

Prints one JSON line.
"""

import contextlib
import os
import sys

import torch

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import workload

ARITHMETIC = {"fp32": "fp32", "autocast": "bf16", "bf16": "bf16"}


class Training:
    def __init__(self, args):
        self.work = workload.Workload(args.config, args.set)
        self.model = self.work.model(args.experts)
        if args.type == "bf16":
            self.model.to(torch.bfloat16)
        self.model.train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), fused=True, **self.work.adamw)
        self.autocast = contextlib.nullcontext()
        if args.type == "autocast":
            self.autocast = torch.autocast("cpu", dtype=torch.bfloat16)
        self.loss = torch.compile(workload.loss_of) if args.mode == "compiled" else workload.loss_of

    def step(self):
        total = 0.0
        for _ in range(self.work.accumulation):
            tokens, targets = self.work.batches.take()
            with self.autocast:
                loss = self.loss(self.model, tokens, targets) / self.work.accumulation
            loss.backward()
            total += loss.item()
        if self.work.clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.work.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total


def main():
    args = workload.arguments(
        __doc__,
        ("--type", {"choices": ARITHMETIC, "default": "fp32", "help": "autocast: bf16 over fp32 parameters"}),
        ("--mode", {"choices": ("eager", "compiled"), "default": "eager"}),
        ("--experts", {"choices": ("grouped_mm", "eager", "batched_mm"), "default": "grouped_mm"}),
    )
    training = Training(args)
    workload.measure(args, training.work.tokens_per_step, training.step, {
        "who": "PyTorch",
        "type": ARITHMETIC[args.type],
        "mode": args.mode + (" autocast" if args.type == "autocast" else ""),
        "experts": args.experts,
        "parameters": sum(p.numel() for p in training.model.parameters()),
    })


main()
