#!/usr/bin/env python3
"""Compares `angel-ptm encode` with transformers: states and masks of captions in English and Chinese by a BertModel, a
T5EncoderModel and an MT5EncoderModel with random weights, computed in fp64, and with them the tokenizers' ids. With
`--text-compute BF16` the error is held against that of transformers computing in bf16.

    text_encoders_parity.py ANGEL_PTM WORK_FOLDER

Needs torch, transformers, safetensors and sentencepiece.
"""
import argparse
import copy
import pathlib
import shutil
import subprocess
import sys

import sentencepiece
import torch
import transformers
from safetensors.torch import load_file

CAPTIONS = [
    "a red fox jumps over the lazy dog, twice!",
    "A Photo of a CAT (on the table) -- 4k, f/1.8",
    "一只红色的狐狸跳过懒狗",
    "月亮在海上 the moon over the sea。",
    "Crème brûlée à la carte; naïve façade",
    "fullwidth ＡＢＣ１２３ and \u3000 spaces",
    "emoji 🦊 and unknown Ω≈ç√",
    "x",
    "a very long caption " * 40 + "末尾",
]
CLIP_LENGTH, T5_LENGTH = 77, 150  # so that all buckets of T5's distances are met


def write_vocabulary(folder):
    text = " ".join(CAPTIONS).lower()
    words = sorted({word for word in text.replace(",", " ").replace("!", " ").split() if word.isascii()})
    kept = words[::2]
    letters = sorted({c for c in text if not c.isspace() and c not in "🦊√"} | set("abcdefghijklmnopqrstuvwxyz0123456789"))
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + letters + kept
    tokens += ["##" + c for c in letters] + ["##" + word for word in words[1::3]]
    unique = list(dict.fromkeys(tokens))
    (folder / "vocab.txt").write_text("".join(token + "\n" for token in unique), encoding="utf-8")
    return len(unique)


def write_pieces(folder):
    (folder / "corpus.txt").write_text("\n".join(CAPTIONS[:6] * 3), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "corpus.txt"), model_prefix=str(folder / "spiece"), vocab_size=200, model_type="unigram",
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, pad_piece="<pad>", hard_vocab_limit=False, minloglevel=2)
    return sentencepiece.SentencePieceProcessor(str(folder / "spiece.model")).get_piece_size()


def randomise(model, scale):
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(parameter.round().clamp(0, 1) + 0.1 * noise if parameter.ndim == 1 else scale * noise)
    return model.eval()


def bert(folder, dtype):
    size = write_vocabulary(folder)
    config = transformers.BertConfig(vocab_size=size, hidden_size=64, num_hidden_layers=3, num_attention_heads=4,
                                     intermediate_size=144, max_position_embeddings=80)
    model = randomise(transformers.BertModel(config), 0.15).to(dtype)
    model.save_pretrained(folder, max_shard_size="300KB")
    tokenizer = transformers.BertTokenizer(str(folder / "vocab.txt"))
    return model.double(), tokenizer


def t5(folder, family, dtype):
    pieces = write_pieces(folder)
    config_class, model_class = {
        "t5": (transformers.T5Config, transformers.T5EncoderModel),
        "mt5": (transformers.MT5Config, transformers.MT5EncoderModel)}[family]
    config = config_class(vocab_size=pieces + 12, d_model=48, d_kv=16, d_ff=100, num_layers=3, num_heads=3,
                          feed_forward_proj="gated-gelu")
    model = randomise(model_class(config), 0.12).to(dtype)
    model.save_pretrained(folder)
    tokenizer = transformers.T5Tokenizer.from_pretrained(str(folder), extra_ids=0)
    return model.double(), tokenizer


def relative(got, want):
    """In the sense of least squares: bf16's largest error is a matter of luck."""
    return ((got.double() - want).norm() / want.norm()).item()


def states(model, tokenizer, captions, length):
    tokens = tokenizer(captions, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    with torch.no_grad():
        out = model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
    return out.last_hidden_state, tokens["attention_mask"]


def encode(arguments, work, compute):
    output = work / f"texts_{compute}.safetensors"
    subprocess.run([arguments.program, "encode", "--clip", work / "clip", "--t5", work / "t5", "--captions",
                    work / "captions.txt", "--output", output, "--clip-length", str(CLIP_LENGTH), "--t5-length",
                    str(T5_LENGTH), "--text-compute", compute], check=True)
    return load_file(output)


def narrow_states_agree(arguments, work, encoders, family):
    """Whether our states in bf16 are at most twice as far from those in fp64, of weights rounded to bf16, as transformers'."""
    got, good = encode(arguments, work, "BF16"), True
    for name, (model, tokenizer, length) in encoders.items():
        narrow = copy.deepcopy(model).to(torch.bfloat16)
        want, _ = states(copy.deepcopy(narrow).double(), tokenizer, CAPTIONS, length)
        theirs, mask = states(narrow, tokenizer, CAPTIONS, length)
        kept = mask.bool()  # of padding the libraries do not compute the same
        errors = [relative(found.reshape(want.shape)[kept], want[kept]) for found in (got[name], theirs)]
        bad = not errors[0] < 2 * errors[1]
        good &= not bad
        print(f"{family} {name} in bf16: relative error {errors[0]:.2e}, of transformers {errors[1]:.2e}"
              f"{' FAILED' if bad else ''}")
    return good


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("work", type=pathlib.Path)
    arguments = parser.parse_args()
    failed = False
    for family, dtype in (("t5", torch.float32), ("mt5", torch.float16), ("mt5", torch.bfloat16)):
        work = arguments.work / f"{family}_{str(dtype)[6:]}"
        shutil.rmtree(work, ignore_errors=True)
        for name in ("clip", "t5"):
            (work / name).mkdir(parents=True)
        encoders = {"clip": (*bert(work / "clip", dtype), CLIP_LENGTH), "t5": (*t5(work / "t5", family, dtype), T5_LENGTH)}
        (work / "captions.txt").write_text("\n".join(CAPTIONS) + "\n", encoding="utf-8")
        got = encode(arguments, work, "FP32")
        failed |= not narrow_states_agree(arguments, work, encoders, family)
        for name, (model, tokenizer, length) in encoders.items():
            for prefix, captions in (("", CAPTIONS), ("empty_", [""])):
                want, mask = states(model, tokenizer, captions, length)
                mine, my_mask = got[prefix + name].reshape(want.shape), got[prefix + name + "_mask"].reshape(mask.shape)
                error = ((mine - want).abs().max() / want.abs().max()).item()
                same_mask = torch.equal(my_mask.long(), mask.long())
                bad = not same_mask or not error < 1e-5
                failed |= bad
                print(f"{family} {dtype} {prefix + name}: {len(captions)} captions, relative error {error:.1e}, masks "
                      f"{'equal' if same_mask else 'DIFFER'}{' FAILED' if bad else ''}")
    sys.exit(failed)


main()
