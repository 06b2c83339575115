#!/usr/bin/env python3
"""A small CNN that tells the classes of Fashion-MNIST, trained on the 60,000 real training images, and what it says of others.

    classifier.py train --output classifier.pt
    classifier.py score --weights classifier.pt [NAME=FOLDER ...]

`score` prints a JSON object by name: the share of a folder's samples (samples.jsonl, as `angel-ptm generate` writes it) that
are recognised as the class that was asked for, and the Frechet distance (Heusel et al. 2017) of their features to those of the
10,000 real test images: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of means and covariances. Features are what the last layer
reads. It adds "real", as many real training images as the first folder has, and "noise", uniform pixels.
"""

import argparse
import json
import os
import sys

import numpy
import torch
from torch import nn

sys.path.append(os.path.dirname(os.path.abspath(__file__)))
import images

FEATURES = 64
ACCURACY_LEAST = 0.91  # of the real test set, below which the classifier's word is worth little


def convolution(inputs, outputs, side=3, stride=1):
    layer = nn.Conv2d(inputs, outputs, side, stride=stride, padding=side // 2, bias=False)
    return layer, nn.BatchNorm2d(outputs), nn.ReLU()


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            *convolution(1, 32, side=5, stride=2), *convolution(32, 64), nn.MaxPool2d(2), *convolution(64, 128),
            nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128 * 3 * 3, FEATURES), nn.ReLU())
        self.head = nn.Linear(FEATURES, len(images.CLASSES))
        self.to(memory_format=torch.channels_last)

    def forward(self, x):
        features = self.body(x)
        return self.head(features), features


def levels(pixels):
    return torch.from_numpy(pixels).float().view(-1, 1, images.SIDE, images.SIDE) / 127.5 - 1


@torch.no_grad()
def read(model, pixels):
    """The class of each image and its features."""
    model.eval()
    logits, features = zip(*(model(part) for part in levels(pixels).split(500)))
    return torch.cat(logits).argmax(1).numpy(), torch.cat(features).double().numpy()


def train(args):
    torch.manual_seed(1)
    pixels, labels = images.real("train")
    pixels, labels = levels(pixels[: args.images]), torch.from_numpy(labels[: args.images]).long()
    model, batch = Classifier(), 100
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=args.epochs * (len(labels) // batch))
    for epoch in range(args.epochs):
        model.train()
        order = torch.randperm(len(labels))
        for chosen in order[: len(labels) // batch * batch].split(batch):
            loss = nn.functional.cross_entropy(model(pixels[chosen])[0], labels[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        recognised = accuracy(model)
        print(f"epoch {epoch}  loss {loss.item():.3f}  recognised of the real test images {recognised:.4f}", flush=True)
    torch.save({"weights": model.state_dict(), "accuracy": recognised}, args.output)
    if recognised < ACCURACY_LEAST and args.images == images.TRAINING:
        sys.exit(f"classifier.py: wanted at least {ACCURACY_LEAST} of the real test images recognised, got {recognised:.4f}")


def accuracy(model):
    pixels, labels = images.real("t10k")
    return float((read(model, pixels)[0] == labels).mean())


def frechet(some, others):
    root = numpy.linalg.eigh(numpy.cov(others, rowvar=False))
    root = (root[1] * numpy.sqrt(numpy.maximum(root[0], 0))) @ root[1].T
    covariance = numpy.cov(some, rowvar=False)
    cross = numpy.sqrt(numpy.maximum(numpy.linalg.eigvalsh(root @ covariance @ root), 0)).sum()
    means = some.mean(0) - others.mean(0)
    return float(means @ means + numpy.trace(covariance) + numpy.trace(root @ root) - 2 * cross)


def balanced(pixels, labels, each):
    """So many images of each class, of a fixed random order."""
    order = numpy.random.default_rng(1).permutation(len(labels))
    chosen = numpy.concatenate([order[labels[order] == c][:each] for c in range(len(images.CLASSES))])
    return pixels[chosen], labels[chosen]


def score(args):
    stored = torch.load(args.weights)
    model = Classifier()
    model.load_state_dict(stored["weights"])
    test = read(model, images.real("t10k")[0])[1]
    said = {"classifier": {"accuracy": stored["accuracy"]}}
    each = 100
    for named in args.folders:
        name, folder = named.split("=", 1)
        pixels, asked, _ = images.read(folder)
        each = len(asked) // len(images.CLASSES)
        said[name] = judge(model, test, pixels, numpy.array(asked))
    said["real"] = judge(model, test, *balanced(*images.real("train"), each))
    noise = numpy.random.default_rng(1).integers(0, 256, (each * len(images.CLASSES), images.SIDE, images.SIDE), numpy.uint8)
    said["noise"] = judge(model, test, noise, numpy.repeat(numpy.arange(len(images.CLASSES)), each))
    print(json.dumps(said))


def judge(model, test, pixels, asked):
    classes, features = read(model, pixels)
    right = classes == asked
    return {"images": len(asked), "recognised": float(right.mean()), "frechet_distance": frechet(features, test),
            "recognised_by_class": {name: float(right[asked == c].mean()) for c, name in enumerate(images.CLASSES)}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "score"))
    parser.add_argument("folders", nargs="*", metavar="NAME=FOLDER")
    parser.add_argument("--weights")
    parser.add_argument("--output")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--images", type=int, default=images.TRAINING, help="of the real training images")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_intermixed_args()
    torch.set_num_threads(args.threads)
    {"train": train, "score": score}[args.what](args)


main()
