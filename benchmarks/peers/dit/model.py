"""model.dit with a flow's objective (angel_ptm/model/dit.h) in PyTorch: the same layers, parameters and initial deviations, read
from the same configuration. What it is conditioned on is one row of integers per image: its class, or how many tokens its
caption has and those tokens; captions are read by a small bidirectional transformer that is trained with it."""

import math
import sys

import torch
from torch import nn
from torch.nn import functional

TIME_FEATURES = 256
DIFFUSION_STEPS = 1000


class Settings:
    """What a configuration asks for. What this program does not do is refused."""

    def __init__(self, config):
        dit, optimizer = config["model"]["dit"], config.get("optimizer", {})
        adamw, schedule = optimizer.get("adamw", {}), optimizer.get("schedule", {})
        self.channels, self.size, self.patch = dit.get("channels", 3), dit["height"], dit.get("patch_size", 2)
        self.hidden, self.layers, self.heads = (dit[k] for k in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
        self.inner = dit.get("intermediate_size", 0) or 4 * self.hidden  # 0 stands for it
        self.classes, self.theta = dit.get("class_count", 0), dit.get("rope_theta", 256)
        self.text_length, self.vocabulary = dit.get("text_length", 0), dit.get("text_vocab_size", 0)
        self.text_hidden = dit.get("text_hidden_size", 0) or self.hidden
        self.text_heads = dit.get("text_num_attention_heads", 0) or self.heads
        self.text_layers, self.other_captions = dit.get("text_num_hidden_layers", 2), dit.get("other_captions", 0)
        if (self.classes > 0) == (self.text_length > 0 and self.vocabulary > 0):
            sys.exit("dit.py: wanted model.dit.class_count or text_length with text_vocab_size, got both or neither")
        # What stands for no condition.
        self.none = [1, self.vocabulary] + [0] * (self.text_length - 1) if self.text_length else [self.classes]
        self.deviation = dit.get("initializer_range", 0.02)
        self.time_mean, self.time_deviation = dit.get("flow_time_mean", 0), dit.get("flow_time_deviation", 1)
        self.dropout = dit.get("condition_dropout", 0.1)
        self.rate, self.eps = adamw.get("learning_rate", 3e-4), adamw.get("epsilon", 1e-8)
        self.betas = adamw.get("beta1", 0.9), adamw.get("beta2", 0.95)
        self.clip = optimizer.get("gradient_clip_norm", 1)
        self.warmup, self.final = schedule.get("warmup_steps", 100), schedule.get("final_learning_rate_ratio", 0.1)
        self.ema_decay = optimizer.get("ema_decay", 0)
        self.data, self.batch = config["data"]["directory"], config["batch"]["global_batch_sequences"]
        self.steps, self.seed = config.get("steps", 1000), config.get("seed", 1)
        self.bf16 = config.get("numerics", {}).get("compute", "FP32") == "BF16"
        for name, got, wanted in (
            ("model.dit.prediction", dit.get("prediction", "FLOW"), "FLOW"),
            ("model.dit.flow_shift", dit.get("flow_shift", 1), 1),
            ("model.dit.flip_probability", dit.get("flip_probability", 0), 0),
            ("model.dit.width", dit.get("width", 0) or self.size, self.size),
            ("optimizer.adamw.weight_decay", adamw.get("weight_decay", 0.1), 0),
            ("optimizer.schedule.kind", schedule.get("kind", "COSINE"), "COSINE"),
        ):
            if got != wanted:
                sys.exit(f"dit.py: {name}: this program knows one value, wanted {wanted}, got {got}")

    def learning_rate(self, step, share=None):
        """`share`: of the training after the warm-up that is done, where that is not a number of steps."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        progress = min(1, (step - self.warmup) / max(1, self.steps - 1 - self.warmup) if share is None else share)
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


def turned(heads, cos, sin):
    first, second = heads.chunk(2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


class Attention(nn.Module):
    def __init__(self, hidden, heads):
        super().__init__()
        self.heads = heads
        self.qkv_proj = nn.Linear(hidden, 3 * hidden, bias=False)
        self.o_proj = nn.Linear(hidden, hidden, bias=False)
        self.q_norm, self.k_norm = RmsNorm(hidden // heads), RmsNorm(hidden // heads)

    def forward(self, x, rope=None, mask=None):
        batch, tokens, hidden = x.shape
        q, k, v = self.qkv_proj(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            q, k = turned(q, *rope), turned(k, *rope)
        o = functional.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, attn_mask=mask)
        return self.o_proj(o.transpose(1, 2).reshape(batch, tokens, hidden))


class CrossAttention(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.heads = s.heads
        self.q_proj = nn.Linear(s.hidden, s.hidden, bias=False)
        self.kv_proj = nn.Linear(s.text_hidden, 2 * s.hidden, bias=False)
        self.o_proj = nn.Linear(s.hidden, s.hidden, bias=False)
        self.q_norm, self.k_norm = RmsNorm(s.hidden // s.heads), RmsNorm(s.hidden // s.heads)

    def forward(self, x, text, mask):
        batch, tokens, hidden = x.shape
        q = self.q_proj(x).view(batch, tokens, self.heads, -1).transpose(1, 2)
        k, v = self.kv_proj(text).view(batch, text.shape[1], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = self.q_norm(q).to(v.dtype), self.k_norm(k).to(v.dtype)
        o = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.o_proj(o.transpose(1, 2).reshape(batch, tokens, hidden))


class Mlp(nn.Module):
    def __init__(self, hidden, inner):
        super().__init__()
        self.up_proj = nn.Linear(hidden, inner, bias=False)
        self.down_proj = nn.Linear(inner, hidden, bias=False)

    def forward(self, x):
        return self.down_proj(functional.gelu(self.up_proj(x), approximate="tanh"))


class Layer(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.modulation = nn.Linear(s.hidden, 6 * s.hidden)
        self.self_attn, self.mlp = Attention(s.hidden, s.heads), Mlp(s.hidden, s.inner)
        if s.text_length:
            self.cross_norm, self.cross_attn = nn.LayerNorm(s.hidden, eps=1e-6), CrossAttention(s)

    def forward(self, x, condition, rope, text, mask):
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = self.modulation(condition).unsqueeze(1).chunk(6, -1)
        x = x + gate * self.self_attn(modulated(x, shift, scale), rope)
        if text is not None:
            x = x + self.cross_attn(self.cross_norm(x), text, mask)
        return x + mlp_gate * self.mlp(modulated(x, mlp_shift, mlp_scale))


class TextLayer(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.attention_norm, self.mlp_norm = (nn.LayerNorm(s.text_hidden, eps=1e-6) for _ in range(2))
        self.self_attn, self.mlp = Attention(s.text_hidden, s.text_heads), Mlp(s.text_hidden, 4 * s.text_hidden)

    def forward(self, x, mask):
        x = x + self.self_attn(self.attention_norm(x), mask=mask)
        return x + self.mlp(self.mlp_norm(x))


class Text(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.embed_tokens = nn.Embedding(s.vocabulary + 1, s.text_hidden)
        self.positions = nn.Parameter(torch.empty(s.text_length, s.text_hidden))
        self.layers = nn.ModuleList(TextLayer(s) for _ in range(s.text_layers))
        self.norm = nn.LayerNorm(s.text_hidden, eps=1e-6)

    def forward(self, rows):
        """States [B, L, H], which of them are of the caption [B, L], and their mean [B, H]."""
        counts, tokens = rows[:, :1], rows[:, 1:]
        real = torch.arange(tokens.shape[1]) < counts
        x = self.embed_tokens(tokens) + self.positions
        for layer in self.layers:
            x = layer(x, real[:, None, None, :])
        x = self.norm(x)
        return x, real, (x * real[:, :, None]).sum(1) / counts


class Dit(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.s, features = s, s.channels * s.patch**2
        self.time = nn.ModuleDict({"in_proj": nn.Linear(TIME_FEATURES, s.hidden),
                                   "out_proj": nn.Linear(s.hidden, s.hidden, bias=False)})
        if s.text_length:
            self.text, self.text_proj = Text(s), nn.Linear(s.text_hidden, s.hidden, bias=False)
        else:
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

    def forward(self, x, time, rows):
        """x [B, C, H, W]; time [B], 0 to 1, 1 is noise; rows [B, R]: of classes or captions, s.none is none."""
        angles = DIFFUSION_STEPS * time[:, None] * self.frequencies
        condition = self.time["in_proj"](torch.cat((angles.cos(), angles.sin()), 1))
        text = mask = None
        if self.s.text_length:
            text, real, mean = self.text(rows)
            mask, given = real[:, None, None, :], self.text_proj(mean)
        else:
            given = self.class_embedding(rows[:, 0])
        condition = functional.silu(self.time["out_proj"](functional.silu(condition)) + given)
        x = self.patch_proj(self.patches(x))
        for layer in self.layers:
            x = layer(x, condition, (self.cos, self.sin), text, mask)
        shift, scale = self.head["modulation"](condition).unsqueeze(1).chunk(2, -1)
        return self.unpatched(self.head["out"](modulated(x, shift, scale)))
