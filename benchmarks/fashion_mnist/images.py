"""Real and sampled images: Fashion-MNIST's files as Debian packages them, folders as `angel-ptm generate` writes them."""

import gzip
import json
import os

import numpy
from PIL import Image

FOLDER = "/usr/share/datasets/fashion-mnist"
SIDE = 28
TRAINING = 60000
# In the order of their numbers, as angel-ptm names them (angel_ptm/data/images).
CLASSES = ("T-shirt or top", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


def real(part):
    """Pixels [N, 1, 28, 28] and labels [N], bytes, of "train" or "t10k"."""
    read = []
    for name, header in (("images-idx3", 16), ("labels-idx1", 8)):
        with gzip.open(os.path.join(FOLDER, f"{part}-{name}-ubyte.gz")) as file:
            read.append(numpy.frombuffer(file.read(), dtype=numpy.uint8, offset=header).copy())
    return read[0].reshape(-1, 1, SIDE, SIDE), read[1]


def read(folder):
    """Pixels [N, 28, 28], the classes that were asked for [N], and the last line's facts."""
    with open(os.path.join(folder, "samples.jsonl"), encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    pixels = numpy.stack([numpy.asarray(Image.open(os.path.join(folder, line["image"])).convert("L")) for line in lines])
    return pixels, [int(line["prompt"]) for line in lines], lines[-1]
