#!/usr/bin/env python3
"""Trains the dense model of an angel-ptm configuration with PyTorch's FSDP2 on the CPU.

    venv/bin/python benchmarks/peers/deepspeed/fsdp2.py --config benchmarks/configs/dense_91m.textproto --offload --steps 3

bf16 over fp32 parameters and moments; --offload: with CPUOffloadPolicy. One rank, or several under torchrun. Prints one
JSON line.
"""

import os
import sys

import torch
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, fully_shard

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import workload


class Training:
    def __init__(self, args):
        self.work = workload.Workload(args.config, args.set)
        workload.be_the_only_rank()
        torch.distributed.init_process_group("gloo")
        mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (torch.distributed.get_world_size(),))
        with torch.device("meta"):
            self.model = self.work.model()
        options = {"mesh": mesh, "mp_policy": MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)}
        if args.offload:
            options["offload_policy"] = CPUOffloadPolicy(pin_memory=False)
        for layer in self.model.model.layers:
            fully_shard(layer, **options)
        fully_shard(self.model, **options)
        self.model.to_empty(device="cpu")
        self.initialize()
        if args.recompute:
            self.model.gradient_checkpointing_enable()
        self.model.train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), fused=True, **self.work.adamw)
        self.steps = self.work.accumulation // torch.distributed.get_world_size()

    def initialize(self):
        """What to_empty left empty: parameters, and rotary frequencies, which are no parameters."""
        with torch.no_grad():
            for parameter in self.model.parameters():
                local = parameter.to_local()
                local.normal_(0, 0.02) if parameter.dim() > 1 else local.fill_(1)
        rotary = self.model.model.rotary_emb
        self.model.model.rotary_emb = type(rotary)(config=self.model.config)

    def step(self):
        total = 0.0
        for i in range(self.steps):
            tokens, targets = self.work.batches.take()
            self.model.set_requires_gradient_sync(i + 1 == self.steps)
            loss = workload.loss_of(self.model, tokens, targets) / self.steps
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
        ("--offload", {"action": "store_true", "help": "CPUOffloadPolicy"}),
        ("--recompute", {"action": "store_true", "help": "blocks' activations"}),
    )
    training = Training(args)
    workload.measure(args, training.work.tokens_per_step, training.step, {
        "who": "FSDP2",
        "type": "bf16",
        "mode": "CPU off-load" if args.offload else "no off-load",
        "parameters": sum(p.numel() for p in training.model.parameters()),
    })
    torch.distributed.destroy_process_group()


main()
