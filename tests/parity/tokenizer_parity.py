#!/usr/bin/env python3
"""Checks that Hugging Face tokenizers gives the same ids as angel-ptm for the tokenizer.json of a folder.

    python3 -m venv venv && venv/bin/pip install tokenizers==0.23.3
    venv/bin/python tests/parity/tokenizer_parity.py build/release/bin/tokenize_file <dataset folder> <text>...

<text> are files or folders. Besides them the script checks texts of its own: every code point alone and between
letters, odd white space, line ends, emoji, special tokens and ill-formed UTF-8 (read as U+FFFD by both).
Exit status 0 when all ids and all decoded texts agree.
"""
import pathlib
import subprocess
import sys
import tempfile

import tokenizers

PINNED = "0.23.3"

ODD_TEXTS = {
    "empty": "",
    "spaces": " ".join(["a", "", "b", "", "", "", "c"]) + "   ",
    "line ends": "a\r\nb\r\n\r\n  c\rd\n\n\n\te\x0b\x0cf\x85g \r\n",
    "white space": "a\u00a0b \u00a0 c\u1680d\u2003\u2003e\u2028f\u2029g\u202fh\u205fi\u3000\u3000j\u180ek\u200bl\ufeffm",
    "contractions": "I'm you're he'll we'd they've it's don't 'S 'T I'M ''s 's't x'",
    "numbers": "1234 12.5 ½ Ⅷ ١٢٣ १२ 1a2b a1b2 ４２ ²³ 3.14e-10 0xFF",
    "emoji": "👩‍👩‍👧‍👦 👍🏽 🇨🇳🇺🇸 ☃️ ❤️‍🔥 a😀b 😀😀 1️⃣",
    "chinese": "大型语言模型（LLM）的训练，需要“数据”。\u3000\u3000第1章：数据2024年。你好 world 你好。" + "天地玄黄宇宙洪荒" * 400,
    "combining": "e\u0301 n\u0303 \u0915\u094d\u0937\u093f กำ \u0627\u0644\u0639\u064e\u0631\u064e\u0628\u064a\u0629 한국어 \u1112\u1161\u11ab",
    "code": "def f(x):\n    return {**x, 'a': [1,2,3]}  # note\n\n\n\tif(a&&b){c->d[0]+=1;}\n" + "=" * 5000,
    "long letters": "ab" * 20000,
    "special": "a<|endoftext|>b <|endoftext|> <|pad|><|endoftext|><|pad|>c <|endoftext| > <|<|pad|>|> <|endoftext",
    "no break": "x" + " " * 3000 + "y\n" + "\n" * 500,
}
ODD_BYTES = {
    "ill-formed": b"ok \xff\xfe caf\xe9 \xc3( \xe2\x82 \xf0\x9f\x98 end\xed\xa0\x80 \xf4\x90\x80\x80 \xc0\x80 \xe4\xb8",
}


def every_code_point(wanted=lambda c: True):
    points = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000 and wanted(chr(c))]
    return {
        "code points on lines": "\n".join(points),
        "code points after letters": "".join("a" + c for c in points),
        "code points after spaces": "".join("  " + c for c in points),
        "code points after digits": "".join("1" + c for c in points),
    }


def text_files(arguments):
    for argument in arguments:
        path = pathlib.Path(argument)
        if path.is_dir():
            for file in sorted(path.rglob("*")):
                if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts):
                    yield file
        else:
            yield path


def first_difference(ours, theirs):
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    return f"{len(ours)} and {len(theirs)} ids, first difference at {at}: {ours[at:at + 8]} and {theirs[at:at + 8]}"


def odd_cases():
    return {name: text.encode() for name, text in ODD_TEXTS.items()} | ODD_BYTES


def differing(program, tokenizer_folder, cases, decodes=True):
    """Compares the ids of {name: bytes} and, where the tokenizer drops nothing, the texts that they decode to; prints a
    line of totals and returns how many differ."""
    hugging_face = tokenizers.Tokenizer.from_file(str(pathlib.Path(tokenizer_folder) / "tokenizer.json"))
    failures = bytes_total = ids_total = 0
    with tempfile.TemporaryDirectory() as folder:
        paths = [pathlib.Path(folder) / f"text{i}" for i in range(len(cases))]
        for path, content in zip(paths, cases.values()):
            path.write_bytes(content)
        lines = subprocess.run([program, tokenizer_folder, *paths], check=True, capture_output=True, text=True).stdout
        for (name, content), line in zip(cases.items(), lines.splitlines(), strict=True):
            ours = [int(word) for word in line.split()]
            text = content.decode("utf-8", errors="replace")
            theirs = hugging_face.encode(text, add_special_tokens=False).ids
            if ours != theirs:
                failures += 1
                print(f"DIFFERENT {name}: angel-ptm and Hugging Face give {first_difference(ours, theirs)}")
            elif decodes and hugging_face.decode(ours, skip_special_tokens=False) != text:
                failures += 1
                print(f"DIFFERENT {name}: the ids do not decode to the text")
            bytes_total, ids_total = bytes_total + len(content), ids_total + len(ours)
    print(f"{len(cases)} texts, {bytes_total} bytes, {ids_total} ids: {failures} differ "
          f"(tokenizers {tokenizers.__version__})")
    return failures


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    if tokenizers.__version__ != PINNED:
        print(f"note: tokenizers {tokenizers.__version__}, written for {PINNED}")
    cases = {str(p): p.read_bytes() for p in text_files(sys.argv[3:])} | odd_cases()
    cases |= {name: text.encode() for name, text in every_code_point().items()}
    return 1 if differing(sys.argv[1], sys.argv[2], cases) else 0


if __name__ == "__main__":
    sys.exit(main())
