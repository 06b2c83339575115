"""Image sets that `angel-ptm prepare` wrote (angel_ptm/data/images/FORMAT.md), and folders of samples that it paints."""

import json
import os

import numpy
from PIL import Image

HEADER = 4096


class ImageSet:
    """The training images: pixels [N, C, H, W], bytes; class_ids [N]; captions[image][language], a list of (text, tokens)."""

    def __init__(self, folder):
        path = os.path.join(folder, "train.images")
        with open(os.path.join(folder, "dataset.json"), encoding="utf-8") as file:
            self.classes = json.load(file)["classes"]
        data = numpy.memmap(path, dtype=numpy.uint8, mode="r")
        if data[:8].tobytes() != b"APTMIMGS" or data[8:12].view("<u4")[0] != 1:
            raise ValueError(f"{path} should be an image file of version 1")
        count, index = (int(word) for word in data[64:80].view("<u8"))
        channels, height, width, languages = (int(word) for word in data[88:104].view("<u4"))
        ends = data[HEADER + index : HEADER + index + 8 * count].view("<u8")
        area, begin = channels * height * width, 0
        self.pixels = numpy.empty((count, channels, height, width), numpy.uint8)
        self.class_ids, self.captions = numpy.empty(count, numpy.int64), []
        for i, end in enumerate(ends):
            image = data[HEADER + begin : HEADER + int(end)].tobytes()
            begin = int(end)
            self.pixels[i] = numpy.frombuffer(image, numpy.uint8, area).reshape(height, width, channels).transpose(2, 0, 1)
            words = numpy.frombuffer(image, "<i4", 2 + languages, area)  # class, style, captions in each language
            self.class_ids[i], at = words[0], area + 4 * len(words)
            self.captions.append([])
            for captions in words[2:]:
                self.captions[i].append([])
                for _ in range(captions):
                    tokens, text = (int(word) for word in numpy.frombuffer(image, "<u4", 2, at))
                    ids = numpy.frombuffer(image, "<i4", tokens, at + 8).tolist()
                    at += 8 + 4 * tokens + text
                    self.captions[i][-1].append((image[at - text : at].decode(), ids))

    def tokens_of(self):
        """By text."""
        return {text: tokens for image in self.captions for language in image for text, tokens in language}


def write_samples(folder, pixels, prompts):
    """Pixels [N, C, H, W], as `angel-ptm generate` writes them."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "samples.jsonl"), "w", encoding="utf-8") as file:
        for i, (image, prompt) in enumerate(zip(pixels, prompts)):
            Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(os.path.join(folder, f"{i:04}.png"))
            file.write(json.dumps({"image": f"{i:04}.png", "prompt": prompt}) + "\n")


def read_samples(folder, channels):
    """Pixels [N, C, H, W], the prompts, and the last line's facts."""
    with open(os.path.join(folder, "samples.jsonl"), encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    mode = "L" if channels == 1 else "RGB"
    pixels = [numpy.asarray(Image.open(os.path.join(folder, line["image"])).convert(mode)) for line in lines]
    stacked = numpy.stack(pixels).reshape(len(lines), *pixels[0].shape[:2], channels)
    return stacked.transpose(0, 3, 1, 2), [line["prompt"] for line in lines], lines[-1]
