"""Token ids of tokenizers of the kinds that released models have: ours, reading the tokenizer.json, against Hugging Face's.

    venv/bin/python tests/parity/foreign_tokenizers_parity.py build/release/bin/tokenize_file <work folder> <text>...

Trains one tokenizer of each kind on the texts with the `tokenizers` package, as no released vocabulary can be had
everywhere; kinds differ in how words are cut, normal forms, tokens of their own and what begins a text.
"""
import json
import pathlib
import random
import sys
import unicodedata

from tokenizer_parity import differing, every_code_point, odd_cases, text_files
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
DEEPSEEK = [r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
            r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
            r"""| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""]
# Kinds whose ids do not decode to the text: of another normal form, or without all of it.
CHANGING = ("qwen2", "removed")
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior=behavior, invert=invert)


def kinds():
    """Name, words, normalizer, added tokens, the one that ends texts, the one that begins them, ignore_merges."""
    yield "gpt2", pre_tokenizers.ByteLevel(add_prefix_space=False), None, ["<|endoftext|>"], None, False
    yield "llama3", pre_tokenizers.Sequence([split(LLAMA3), BYTES]), None, \
        ["<|end_of_text|>", "<|begin_of_text|>", "<|eot_id|>"], "<|begin_of_text|>", True
    yield "qwen2", pre_tokenizers.Sequence([split(QWEN2), BYTES]), normalizers.NFC(), \
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>", AddedToken("<think>", normalized=True),
         AddedToken("é+", normalized=True)], None, False
    yield "deepseek", pre_tokenizers.Sequence([*map(split, DEEPSEEK), BYTES]), None, \
        ["<｜end▁of▁sentence｜>", "<｜begin▁of▁sentence｜>"], "<｜begin▁of▁sentence｜>", False
    yield "digits", pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                             pre_tokenizers.ByteLevel(add_prefix_space=False)]), None, \
        ["<end>"], None, False
    yield "removed", pre_tokenizers.Sequence([split(QWEN2, "removed", invert=True), split("x+", "removed"), BYTES]), \
        None, ["</s>"], None, False


def make(words, normalizer, tokens, begin, ignore_merges, texts, folder):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = words
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=3000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tokenizer.add_special_tokens([t for t in tokens if isinstance(t, str)])
    tokenizer.add_tokens([t for t in tokens if not isinstance(t, str)])
    if begin is not None:
        tokenizer.post_processor = processors.Sequence([
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=f"{begin} $A", pair=f"{begin} $A {begin} $B",
                                          special_tokens=[(begin, tokenizer.token_to_id(begin))])])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": tokens[0]}))


def nasty(seed):
    """Text in which the rules meet: spaces, digits, apostrophes, marks, tokens and parts of them."""
    rng = random.Random(seed)
    parts = ["a", "It's", "I'LL", " don't", "  ", "\n", "\r\n", "\n\n  ", "\t", "1", "12345", "3.14", "中文，字", "かな",
             "é", "é", "한", "ﬁ", "x", "xx", "!?", " ...", "<|endoftext|>", "<|im_start|>", "<think>", "é+", "é+",
             "<|", "|>", "</s>", "<end>", "<｜end▁of▁sentence｜>", "<|eot_id|>", " ", "　", "😀", "_", "(foo)",
             "$x$", "Ω", "Å", "\u0085", "٣", "'ſ", "'ＳT", "\u200b", "\u180e", "ß", "İ"]
    return "".join(rng.choice(parts) for _ in range(4000))


def main():
    program, work = sys.argv[1], pathlib.Path(sys.argv[2])
    texts = {path: pathlib.Path(path).read_bytes()[:400_000] for path in map(str, text_files(sys.argv[3:]))}
    cases = texts | odd_cases() | {f"nasty {seed}": nasty(seed).encode() for seed in range(8)}
    # What either library's version of Unicode does not know yet may be cut in two ways.
    known = every_code_point(lambda c: unicodedata.category(c) != "Cn")
    cases |= {name: text.encode() for name, text in known.items()}
    failures = 0
    for kind, *rest in kinds():
        make(*rest, [text.decode("utf-8", "replace") for text in texts.values()], work / kind)
        print(f"{kind}: ", end="", flush=True)
        failures += differing(program, work / kind, cases, decodes=kind not in CHANGING)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
