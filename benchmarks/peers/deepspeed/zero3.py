#!/usr/bin/env python3
"""Trains the dense model of an angel-ptm configuration with DeepSpeed's ZeRO-3 on its CPU accelerator.

    venv/bin/python benchmarks/peers/deepspeed/zero3.py --config benchmarks/configs/dense_91m.textproto \
        --offload nvme --directory /var/tmp --steps 3

bf16 with fp32 master weights. --offload none: states where they are computed; cpu: DeepSpeed's CPU off-load of parameters and
optimizer states; nvme-states: optimizer states in files; nvme: parameters, too. One rank, or several under torchrun.
Prints one JSON line.
"""

import os
import sys

os.environ.setdefault("DS_ACCELERATOR", "cpu")

import deepspeed
import torch
import torch._dynamo  # before zero.Init, whose own torch.tensor it would refuse

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import workload

OFFLOADS = ("none", "cpu", "nvme-states", "nvme")


def configuration(args, work, ranks):
    adamw = work.adamw
    zero = {"stage": 3, "overlap_comm": False, "contiguous_gradients": True, "stage3_param_persistence_threshold": 0,
            "stage3_max_live_parameters": args.live_elements, "stage3_max_reuse_distance": args.live_elements,
            "stage3_prefetch_bucket_size": 0, "reduce_bucket_size": args.bucket_elements,
            "sub_group_size": args.group_elements}
    # Nothing is gained by page-locked memory where the accelerator is the CPU, and it is rounded up.
    host = {"device": "cpu", "pin_memory": False}
    if args.offload != "none":
        zero["offload_optimizer"] = zero["offload_param"] = host
    if args.offload.startswith("nvme"):
        # Three buffers of a group for its master weights and moments, one for its gradients.
        zero["offload_optimizer"] = {"device": "nvme", "nvme_path": args.directory, "buffer_count": 4,
                                     "pipeline_read": False, "pipeline_write": False, "pin_memory": False}
    if args.offload == "nvme":
        largest = max(work.fields["vocab_size"] * work.fields["hidden_size"],
                      work.fields["intermediate_size"] * work.fields["hidden_size"])
        zero["offload_param"] = {"device": "nvme", "nvme_path": args.directory, "buffer_count": 5,
                                 "buffer_size": largest, "max_in_cpu": 0, "pin_memory": False}
    return {
        "train_micro_batch_size_per_gpu": work.micro_batch,
        "gradient_accumulation_steps": work.accumulation // ranks,
        "gradient_clipping": float(work.clip_norm),
        "bf16": {"enabled": True},
        "zero_optimization": zero,
        "aio": {"block_size": 1048576, "queue_depth": 32, "single_submit": False, "overlap_events": True},
        "optimizer": {"type": "AdamW", "params": {"lr": adamw["lr"], "betas": list(adamw["betas"]),
                                                  "weight_decay": adamw["weight_decay"]}},
        "wall_clock_breakdown": False,
        "steps_per_print": 1 << 30,
    }


def initialize_embedding(embedding):
    torch.nn.init.normal_(embedding.weight, 0, 0.02)


class Training:
    def __init__(self, args):
        self.work = workload.Workload(args.config, args.set)
        workload.be_the_only_rank()
        deepspeed.init_distributed(dist_backend="gloo", verbose=False)
        config = configuration(args, self.work, torch.distributed.get_world_size())
        # Under zero.Init transformers finds nothing left to initialize: modules' own first values stay. An embedding's, of
        # variance 1, would make logits of hundreds, as it is the head, too.
        torch.nn.Embedding.reset_parameters = initialize_embedding
        with deepspeed.zero.Init(config_dict_or_path=config, dtype=torch.bfloat16):
            model = self.work.model()
        if args.recompute:
            model.gradient_checkpointing_enable()
        model.train()
        self.parameters = sum(p.ds_numel for p in model.parameters())
        self.engine = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=config)[0]

    def step(self):
        total, count = 0.0, self.engine.gradient_accumulation_steps()
        for _ in range(count):
            tokens, targets = self.work.batches.take()
            loss = workload.loss_of(self.engine, tokens, targets)
            self.engine.backward(loss)
            self.engine.step()
            total += loss.item() / count
        return total


def main():
    args = workload.arguments(
        __doc__,
        ("--offload", {"choices": OFFLOADS, "default": "cpu"}),
        ("--directory", {"default": ".", "help": "of files, with --offload nvme"}),
        ("--recompute", {"action": "store_true", "help": "blocks' activations"}),
        ("--live-elements", {"type": int, "default": 10_000_000, "help": "of gathered parameters"}),
        ("--bucket-elements", {"type": int, "default": 10_000_000, "help": "of gradients that are reduced together"}),
        ("--group-elements", {"type": int, "default": 10_000_000, "help": "that are updated together"}),
    )
    training = Training(args)
    workload.measure(args, training.work.tokens_per_step, training.step, {
        "who": "DeepSpeed",
        "type": "bf16",
        "mode": "ZeRO-3, off-load " + args.offload,
        "parameters": training.parameters,
        "deepspeed": deepspeed.__version__,
    })


main()
