"""What an angel-ptm configuration asks for, for frameworks in Python: model, batches, AdamW's numbers; and the timed loop."""

import argparse
import json
import os
import re
import resource
import socket
import statistics
import time

import numpy
import torch
import transformers

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
                fields[name] = read_value(tokens[i])
            i += 1
        return fields, i

    fields, end = block(0)
    if end != len(tokens):
        raise ValueError("a } without its {")
    return fields


def read_value(token):
    if token[0] == '"':
        return token[1:-1]
    try:
        return float(token) if re.search(r"[.e]", token) else int(token)
    except ValueError:
        return {"true": True, "false": False}.get(token, token)


def set_field(fields, setting):
    """Sets "a.b.c=value" as angel-ptm's --set does, without its checks."""
    path, value = setting.split("=", 1)
    *parents, name = path.split(".")
    for parent in parents:
        fields = fields.setdefault(parent, {})
    fields[name] = read_value(value)


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
        "pad_token_id": None,  # there is no padding: no token's embedding is kept at 0
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
    """Windows of a token file (angel_ptm/data/FORMAT.md), one after the other; the ranks take turns."""

    def __init__(self, path, sequence_length, rows):
        rank, ranks = (int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1)))
        header = numpy.fromfile(path, dtype="<u4", count=6)
        if header[:2].tobytes() != b"APTMTOKS" or header[2] != 1:
            raise ValueError(f"{path} should be a token file of version 1")
        count = int(header[4]) + (int(header[5]) << 32)
        dtype = "<u2" if header[3] == 2 else "<i4"
        self.tokens = numpy.memmap(path, dtype=dtype, mode="r", offset=4096, shape=(count,))
        self.length, self.rows, self.next, self.stride = sequence_length, rows, rank * rows, ranks * rows

    def take(self):
        """Tokens and targets, [rows, length]."""
        windows = (len(self.tokens) - 1) // self.length
        rows = [(self.next + i) % windows * self.length for i in range(self.rows)]
        self.next += self.stride
        window = torch.tensor(numpy.stack([self.tokens[at : at + self.length + 1] for at in rows]).astype(numpy.int64))
        tokens = window[:, :-1].contiguous()
        return tokens, torch.where(tokens == END_OF_TEXT, -100, window[:, 1:])


class Workload:
    """A configuration with settings over it."""

    def __init__(self, path, settings=()):
        with open(path, encoding="utf-8") as file:
            config = read_textproto(file.read())
        for setting in settings:
            set_field(config, setting)
        batch = config.get("batch", {})
        self.length = config["data"].get("sequence_length", 1024)
        self.micro_batch = batch.get("micro_batch_sequences", 1)
        self.accumulation = batch.get("global_batch_sequences", 8) // self.micro_batch
        self.tokens_per_step = self.accumulation * self.micro_batch * self.length
        self.batches = Batches(config["data"]["directory"] + "/train.tokens", self.length, self.micro_batch)
        self.fields = config["model"]["hunyuan_lm"]
        optimizer = config.get("optimizer", {})
        adamw = optimizer.get("adamw", {})
        self.clip_norm = optimizer.get("gradient_clip_norm", 1)
        self.adamw = {
            "lr": adamw.get("learning_rate", 3e-4),
            "betas": (adamw.get("beta1", 0.9), adamw.get("beta2", 0.95)),
            "weight_decay": adamw.get("weight_decay", 0.1),
        }
        torch.manual_seed(config.get("seed", 1))

    def model(self, experts="grouped_mm"):
        return make_model(self.fields, self.length, experts)


def loss_of(model, tokens, targets):
    logits = model(input_ids=tokens).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def be_the_only_rank():
    """Where no launcher said which rank this process is: a world of one."""
    if "RANK" in os.environ:
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def arguments(documentation, *more):
    """The command line of every peer; `more`: names and options of further flags."""
    parser = argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="angel-ptm configuration; its paths are of this directory")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="over the configuration")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=2, help="steps that are not counted")
    parser.add_argument("--steps", type=int, default=5)
    for name, options in more:
        parser.add_argument(name, **options)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    return args


def measure(args, tokens_per_step, step, more):
    """Takes the steps, each of which returns its loss, and prints one JSON line of their times and of `more`."""
    seconds, losses = [], []
    for _ in range(args.warmup + args.steps):
        start = time.perf_counter()
        losses.append(step())
        seconds.append(time.perf_counter() - start)
    seconds = seconds[args.warmup :]
    line = {
        "tokens_per_second": tokens_per_step / statistics.median(seconds),
        "seconds": seconds,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "loss": [losses[0], losses[-1]],
        "threads": args.threads,
        "versions": {m.__name__: m.__version__ for m in (torch, transformers, numpy)},
    }
    print(json.dumps(more | line))
