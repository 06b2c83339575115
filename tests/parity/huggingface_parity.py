#!/usr/bin/env python3
"""Compares angel-ptm with Hugging Face transformers on an exported model: logits, gradients, AdamW steps.

Set up once (any directory; about 6 GB, since PyPI's torch for x86-64 brings its GPU libraries; the CPU is used):

    python3 -m venv venv
    venv/bin/pip install torch==2.15.0 transformers==5.23.0 safetensors==0.8.0 tokenizers==0.23.3

Run, with a directory written by `angel-ptm export` and a dump of what angel-ptm computes with the same weights:

    venv/bin/python tests/parity/huggingface_parity.py --model out/export --dump out/parity.safetensors

The dump is one safetensors file. B rows of S tokens make one micro-batch, V is the vocabulary:

    tokens, targets          I32 [B,S]    a negative target is ignored
    positions, segment_start I32 [B,S]    optional; default 0..S-1 and 0: token i of a row attends to j of the same row
                                          with segment_start[i] <= j <= i
    logits                   F32 [B,S,V]  forward with the exported weights
    loss                     F32 [1]      mean cross-entropy over the target tokens
    grad/<name>              F32          gradient of loss (plus the router term), for every exported tensor
    step_tokens, step_targets, step_positions, step_segment_start
                             I32 [N,B,S]  optional batches of the steps; default: the batch above in every step
    learning_rates           F32 [N]
    losses                   F32 [N]      each before its update, the first with the exported weights
    grad_norms               F32 [N]      optional, before clipping
    weights_after/<name>     F32          optional, after the last step

    metadata: beta1, beta2, epsilon, weight_decay, clip_norm (0: off), router_aux_loss_coefficient (default 0)

AdamW is p -= lr * (mhat / (sqrt(vhat) + epsilon) + weight_decay * p), without decay on vectors (norms); gradients are
scaled by clip_norm / norm when their global norm is above clip_norm. The router term is coefficient * sum over layers of
E * sum_e fraction_e * mean_t probability_te, where fraction_e is expert e's share of the (token, choice) pairs.

With --bf16 the dump is of a run that computes in bf16. Then the truth is the transformers model in fp32, and what is
compared are errors: the root mean square of angel-ptm's may be at most twice that of transformers' own bf16. The steps
are compared with a bf16 transformers model that is trained with fp32 master weights and moments.

Exits 0 if every comparison is within its tolerance. An error is max |got - want| / max |want| over a tensor.
"""

import argparse
import math
import sys

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM


# By default, of fp32 and of bf16.
TOLERANCES = (
    ("logits_tolerance", 1e-5, None),
    ("errors_tolerance", None, 2),
    ("loss_tolerance", 1e-5, 1e-3),
    ("gradients_tolerance", 1e-4, 1e-1),
    ("steps_tolerance", 1e-4, 1e-3),
    ("weights_tolerance", 1e-2, 1e-1),
)


class Checks:
    """Collects comparisons and prints them as a table."""

    def __init__(self):
        self.failed = 0

    def add(self, what, value, tolerance, note=""):
        ok = value <= tolerance  # NaN fails
        self.failed += not ok
        print(f"{'ok' if ok else 'FAIL':4}  {what:44} {value:10.3e}  <= {tolerance:.0e}  {note}")

    def require(self, what, condition, note=""):
        self.failed += not condition
        print(f"{'ok' if condition else 'FAIL':4}  {what:44} {note}")


def scaled_error(got, want):
    got, want = got.double(), want.double()
    if got.shape != want.shape:
        return float("inf")
    difference, magnitude = (got - want).abs().max().item(), want.abs().max().item()
    if not math.isfinite(difference) or not math.isfinite(magnitude):
        return float("inf")  # max and sorted, which callers use, would lose a NaN
    return difference / magnitude if magnitude > 0 else (0.0 if difference == 0 else float("inf"))


def rms_error(got, want):
    got, want = got.double(), want.double()
    return ((got - want).pow(2).mean() / want.pow(2).mean()).sqrt().item()


def worst_relative_error(got, want):
    return max((scaled_error(torch.tensor(a), torch.tensor(b)) for a, b in zip(got, want, strict=True)), default=float("inf"))


def tensors_by_exported_name(model):
    """{name in the exported files: (parameter, index into it)}; transformers 5 keeps a layer's experts fused."""
    views = {}
    for name, parameter in model.named_parameters():
        if name.endswith("mlp.experts.gate_up_proj"):
            prefix, rows = name.removesuffix("gate_up_proj"), parameter.shape[1] // 2
            for e in range(parameter.shape[0]):
                views[f"{prefix}{e}.gate_proj.weight"] = (parameter, (e, slice(0, rows)))
                views[f"{prefix}{e}.up_proj.weight"] = (parameter, (e, slice(rows, None)))
        elif name.endswith("mlp.experts.down_proj"):
            for e in range(parameter.shape[0]):
                views[f"{name.removesuffix('down_proj')}{e}.down_proj.weight"] = (parameter, (e,))
        else:
            views[name] = (parameter, ())
    return views


class Router:
    """Watches the gates of a forward pass: the load-balancing term, and how close the closest top-k choice was."""

    def __init__(self, model):
        self.topk, self.terms, self.margin = getattr(model.config, "moe_topk", 0), [], float("inf")
        for name, module in model.named_modules():
            if name.endswith("mlp.gate"):
                module.register_forward_hook(self.hook)

    def hook(self, module, inputs, output):
        probabilities = torch.softmax(output[0].float(), dim=-1)
        tokens, experts = probabilities.shape
        top = probabilities.topk(min(self.topk + 1, experts), dim=-1)
        if experts > self.topk:
            self.margin = min(self.margin, (top.values[:, -2] - top.values[:, -1]).min().item())
        chosen = top.indices[:, : self.topk].reshape(-1)
        fraction = torch.bincount(chosen, minlength=experts) / (tokens * self.topk)
        self.terms.append(experts * (fraction * probabilities.mean(0)).sum())

    def take(self):
        total, self.terms = sum(self.terms, torch.zeros(())), []
        return total


def attention_mask(segment_start):
    """Additive [B,1,S,S]."""
    positions = torch.arange(segment_start.shape[1])
    keys = positions[None, None, :]
    seen = (keys <= positions[None, :, None]) & (keys >= segment_start[:, :, None])
    return torch.where(seen, 0.0, torch.finfo(torch.bfloat16).min)[:, None]


class Batch:
    def __init__(self, tokens, targets, positions, segment_start):
        self.tokens, self.targets = tokens.long(), targets.long()
        default = torch.arange(tokens.shape[1]).expand(tokens.shape)
        self.positions = default if positions is None else positions.long()
        self.mask = attention_mask(torch.zeros_like(default) if segment_start is None else segment_start.long())

    def logits(self, model):
        return model(
            input_ids=self.tokens, attention_mask=self.mask.to(model.dtype), position_ids=self.positions, use_cache=False
        ).logits

    def loss(self, logits):
        targets = torch.where(self.targets < 0, -100, self.targets)
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def batches(dump):
    fields = ("tokens", "targets", "positions", "segment_start")
    first = Batch(*(dump.get(f) for f in fields))
    if "step_tokens" not in dump:
        return first, [first] * dump["losses"].numel()
    steps = range(dump["step_tokens"].shape[0])
    return first, [Batch(*(dump["step_" + f][n] if "step_" + f in dump else None for f in fields)) for n in steps]


def compare_forward_and_backward(model, router, views, dump, batch, coefficient, args, checks):
    logits = batch.logits(model).float()
    loss = batch.loss(logits)
    count = batch.tokens.numel()
    checks.require("tokens", count >= args.tokens_min, f"{count} of at least {args.tokens_min}")
    checks.add("logits", scaled_error(dump["logits"].reshape(logits.shape), logits), args.logits_tolerance)
    checks.add("loss", scaled_error(dump["loss"].reshape(()), loss), args.loss_tolerance, f"{loss.item():.6f}")
    (loss + coefficient * router.take()).backward()

    got_names = {k.removeprefix("grad/") for k in dump if k.startswith("grad/")}
    checks.require(
        "gradients by name", got_names == set(views), f"{len(views)} wanted; differ: {sorted(got_names ^ set(views))[:5]}"
    )
    errors = {}
    for name in sorted(got_names & set(views)):
        parameter, index = views[name]
        want = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        errors[name] = scaled_error(dump["grad/" + name], want[index])
    worst = sorted(errors, key=errors.get, reverse=True)
    checks.add("gradients, worst tensor", errors[worst[0]], args.gradients_tolerance, worst[0])
    for name in worst[1:6]:
        print(f"          {errors[name]:.3e}  {name}")


def compare_errors_in_bf16(model, router, views, dump, batch, coefficient, args, checks):
    """Converts the fp32 model to bf16."""

    def run():
        model.zero_grad(set_to_none=True)
        logits = batch.logits(model).float()
        loss = batch.loss(logits)
        (loss + coefficient * router.take()).backward()
        zeros = torch.zeros(())
        grads = {n: (zeros.expand(p.shape) if p.grad is None else p.grad.float())[i].clone() for n, (p, i) in views.items()}
        return logits.detach(), loss.item(), grads

    want_logits, want_loss, want_grads = run()
    model.to(torch.bfloat16)
    logits, loss, grads = run()
    got = dump["logits"].reshape(logits.shape)
    note = "{:.2e} and {:.2e} from fp32".format
    ours, theirs = rms_error(got, want_logits), rms_error(logits, want_logits)
    checks.add("logits, error over transformers'", ours / theirs, args.errors_tolerance, note(ours, theirs))
    ours = abs(dump["loss"].item() / want_loss - 1)
    checks.add("loss", ours, args.loss_tolerance, note(ours, abs(loss / want_loss - 1)))
    names = {k.removeprefix("grad/") for k in dump if k.startswith("grad/")}
    checks.require("gradients by name", names == set(views), f"{len(views)} wanted; differ: {sorted(names ^ set(views))[:5]}")
    errors = [(rms_error(dump["grad/" + n], want_grads[n]), rms_error(grads[n], want_grads[n])) for n in sorted(names)]
    ours, theirs = (math.sqrt(sum(e[i] ** 2 for e in errors) / len(errors)) for i in (0, 1))
    checks.add("gradients, error over transformers'", ours / theirs, args.errors_tolerance, note(ours, theirs))


def adamw_step(masters, state, step, learning_rate, hyper):
    """The update of {parameter: its fp32 values}, written out; returns the gradient norm before clipping."""
    norm = torch.sqrt(sum(p.grad.double().pow(2).sum() for p in masters)).item()
    scale = hyper["clip_norm"] / norm if 0 < hyper["clip_norm"] < norm else 1.0
    for p, master in masters.items():
        m, v = state.setdefault(p, (torch.zeros_like(master), torch.zeros_like(master)))
        g = p.grad.float() * scale
        m.mul_(hyper["beta1"]).add_(g, alpha=1 - hyper["beta1"])
        v.mul_(hyper["beta2"]).addcmul_(g, g, value=1 - hyper["beta2"])
        direction = (m / (1 - hyper["beta1"] ** step)) / ((v / (1 - hyper["beta2"] ** step)).sqrt() + hyper["epsilon"])
        decay = hyper["weight_decay"] if p.dim() > 1 else 0.0
        master.sub_(learning_rate * (direction + decay * master))
        p.data.copy_(master)
    return norm


def compare_training(model, masters, router, views, dump, steps, coefficient, hyper, args, checks):
    state, losses, norms = {}, [], []
    for step, batch in enumerate(steps, start=1):
        model.zero_grad(set_to_none=False)
        loss = batch.loss(batch.logits(model))
        (loss + coefficient * router.take()).backward()
        losses.append(loss.item())
        norms.append(adamw_step(masters, state, step, dump["learning_rates"][step - 1].item(), hyper))
    checks.require("steps", len(losses) >= args.steps_min, f"{len(losses)} of at least {args.steps_min}")
    got = dump["losses"].tolist()
    for step, (a, b) in enumerate(zip(got, losses), start=1):
        print(f"          step {step:2}: angel-ptm {a:.7f}  transformers {b:.7f}")
    checks.add("losses of the steps, worst", worst_relative_error(got, losses), args.steps_tolerance)
    if "grad_norms" in dump:
        worst = worst_relative_error(dump["grad_norms"].tolist(), norms)
        checks.add("gradient norms of the steps, worst", worst, args.gradients_tolerance)
    after = {
        name: scaled_error(dump["weights_after/" + name], masters[parameter][index])
        for name, (parameter, index) in views.items()
        if "weights_after/" + name in dump
    }
    if after:
        # Adam divides by the root of the second moment, so an entry whose gradient is rounding noise may move either
        # way; what matters is that no tensor as a whole went elsewhere.
        worst = max(after, key=after.get)
        checks.add("weights after the steps, worst tensor", after[worst], args.weights_tolerance, worst)


def compare_model(args, checks):
    dump = load_file(args.dump)
    with safe_open(args.dump, "pt") as file:
        metadata = file.metadata() or {}
    model, info = AutoModelForCausalLM.from_pretrained(
        args.model,
        dtype=torch.float32,
        attn_implementation="eager",
        experts_implementation="eager",
        output_loading_info=True,
    )
    wrong = {key: value for key, value in info.items() if value}
    checks.require("from_pretrained", not wrong, f"{type(model).__name__} {wrong or ''}")
    masters = {parameter: parameter.data.clone() for parameter in model.parameters()}
    model.train()  # dropout is 0 in these models
    # transformers gives the padding token's embedding no gradient; for angel-ptm it is a token like any other.
    model.model.embed_tokens.padding_idx = None

    views, router = tensors_by_exported_name(model), Router(model)
    coefficient = float(metadata.get("router_aux_loss_coefficient", 0))
    first, steps = batches(dump)
    compare = compare_errors_in_bf16 if args.bf16 else compare_forward_and_backward
    compare(model, router, views, dump, first, coefficient, args, checks)
    if router.margin < float("inf"):
        print(f"          closest top-k choice: probabilities {router.margin:.1e} apart")
    hyper = {k: float(metadata[k]) for k in ("beta1", "beta2", "epsilon", "weight_decay", "clip_norm")}
    compare_training(model, masters, router, views, dump, steps, coefficient, hyper, args, checks)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="directory written by angel-ptm export")
    parser.add_argument("--dump", required=True, help="safetensors file with angel-ptm's results")
    parser.add_argument("--tokens-min", type=int, default=1000)
    parser.add_argument("--steps-min", type=int, default=10)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--logits-tolerance", type=float)
    parser.add_argument("--errors-tolerance", type=float)
    parser.add_argument("--loss-tolerance", type=float)
    parser.add_argument("--gradients-tolerance", type=float)
    parser.add_argument("--steps-tolerance", type=float)
    parser.add_argument("--weights-tolerance", type=float)
    args = parser.parse_args()
    for name, fp32, bf16 in TOLERANCES:
        if getattr(args, name) is None:
            setattr(args, name, bf16 if args.bf16 else fp32)
    checks = Checks()
    compare_model(args, checks)
    print("parity holds" if checks.failed == 0 else f"{checks.failed} comparisons FAILED")
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main())
