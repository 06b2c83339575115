"""A benchmark of our diffusion transformer beside dit.py: stages that each leave their result in OUTPUT.json."""

import glob
import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PEER = os.path.join(HERE, "dit.py")
# Of what runs in Python: threads that spin lose to whatever else wants the cores.
WAIT = {"OMP_WAIT_POLICY": "passive"}
ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def flags(settings):
    return [word for setting in settings for word in ("--set", setting)]


def arguments(parser, config, output, guidance):
    parser.add_argument("--program", default="build/release/bin/angel-ptm")
    parser.add_argument("--config", default=config)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="over the configuration, for both")
    parser.add_argument("--python", default="runs/peers/bin/python", help="with benchmarks/peers/dit/requirements.txt")
    parser.add_argument("--threads", type=int, default=2, help="of the peer")
    parser.add_argument("--peer-compute", default="FP32", help="FP32, its quicker one, or BF16: autocast")
    parser.add_argument("--steps", type=int, help="of training; default: the configuration's")
    parser.add_argument("--guidance", type=float, default=guidance)
    parser.add_argument("--sampler-steps", type=int, default=20)
    parser.add_argument("--limit", type=float, default=3600, help="seconds after which whatever runs is ended")
    parser.add_argument("--output", default=output)


class Beside:
    def __init__(self, args):
        self.args, self.deadline = args, time.monotonic() + args.limit
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        self.folder = os.path.dirname(os.path.abspath(args.output))
        os.makedirs(self.folder, exist_ok=True)
        self.result = {}
        if os.path.exists(args.output + ".json"):
            with open(args.output + ".json", encoding="utf-8") as file:
                self.result = json.load(file)

    @classmethod
    def stages(cls):
        return [name.removeprefix("stage_") for name in vars(cls) if name.startswith("stage_")]

    @staticmethod
    def fail(sentence):
        sys.exit(f"{os.path.basename(os.path.dirname(os.path.abspath(sys.argv[0])))}: {sentence}")

    def path(self, name):
        return os.path.join(self.folder, name)

    def keep(self, **facts):
        self.result |= facts
        with open(self.args.output + ".json", "w", encoding="utf-8") as file:
            json.dump(self.result, file, indent=1)

    def call(self, command, log=None, show=False):
        """Its standard output, which is also shown line by line if so asked; what it says otherwise goes to a file of that name."""
        lines, left = [], self.deadline - time.monotonic()
        environment = (WAIT if command[0] == self.args.python else {}) | os.environ | ROOT
        with open(self.path((log or "last") + ".log"), "w", encoding="utf-8") as file:
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True, env=environment,
                                  start_new_session=True) as running:
                clock = threading.Timer(max(0, left), os.killpg, (running.pid, signal.SIGKILL))
                clock.start()
                try:
                    for line in running.stdout:
                        lines.append(line)
                        if show:
                            print(f"  {line}", end="", file=sys.stderr, flush=True)
                    running.wait()
                finally:  # whoever ends this program ends what it runs
                    clock.cancel()
                    if running.poll() is None:
                        os.killpg(running.pid, signal.SIGKILL)
            file.writelines(lines)
        if time.monotonic() >= self.deadline:
            self.fail(f"--limit: wanted all stages in {self.args.limit:.0f} s, got longer in {' '.join(command[:4])} ...")
        if running.returncode != 0:
            self.fail(f"{' '.join(command[:4])} ... ended with {running.returncode}, what it said is in {file.name}")
        return "".join(lines)

    def ours(self, command, *words, settings=(), ranks=1):
        launch = ["mpirun", "-np", str(ranks), "--bind-to", "none", "--oversubscribe"] if ranks > 1 else []
        return launch + [self.args.program, command, *words, *flags(settings)]

    def peer(self, program, *words, settings=()):
        return [self.args.python, program, *words, "--threads", str(self.args.threads), *flags(settings)]

    def settings(self):
        chosen = list(self.args.set)
        if self.args.steps:
            chosen += [f"steps={self.args.steps}", f"optimizer.schedule.warmup_steps={min(100, self.args.steps // 2)}"]
        return chosen

    def checkpoint(self):
        found = sorted(glob.glob(self.path("train/checkpoints/step-*[0-9]")))
        return found[-1] if found else self.fail(f"{self.path('train')} has no checkpoint, wanted the stage train first")

    def prepare(self):
        self.call(self.ours("prepare", self.args.config, settings=self.args.set))

    def train(self):
        """Ours, on two ranks."""
        shutil.rmtree(self.path("train"), ignore_errors=True)
        settings, begin = [f"output.directory={self.path('train')}", *self.settings()], time.monotonic()
        self.call(self.ours("train", self.args.config, settings=settings, ranks=2), "train", show=True)
        wall = time.monotonic() - begin
        with open(self.path("train/metrics.jsonl"), encoding="utf-8") as file:
            steps = [json.loads(line) for line in file]
        with open(os.path.join(self.checkpoint(), "manifest.json"), encoding="utf-8") as file:
            units = json.load(file)["units"]
        shapes = [p["shape"] for unit in units for p in unit["parameters"]]
        self.keep(ours={"steps": len(steps), "seconds": sum(s["seconds"] for s in steps), "wall_seconds": wall,
                        "parameters": sum(math.prod(shape) for shape in shapes),
                        "last_loss": statistics.mean(s["loss"] for s in steps[-100:])})

    def train_peer(self, *words):
        settings = [*self.settings(), f"numerics.compute={self.args.peer_compute}"]
        self.call(self.peer(PEER, "train", "--config", self.args.config, "--output", self.path("peer.pt"), *words,
                            settings=settings), "peer", show=True)

    def sampling(self):
        return ["--guidance", str(self.args.guidance), "--steps", str(self.args.sampler_steps)]

    def sample(self, prompts, *words):
        shutil.rmtree(self.path("samples"), ignore_errors=True)
        asked = [word for prompt in prompts for word in ("--prompt", prompt)]
        self.call(self.ours("generate", "--checkpoint", self.checkpoint(), "--weights", "ema", "--output",
                            self.path("samples"), *asked, *words, *self.sampling()), "sample")

    def sample_peer(self, prompts, *words):
        shutil.rmtree(self.path("peer_samples"), ignore_errors=True)
        with open(self.path("prompts.txt"), "w", encoding="utf-8") as file:
            file.writelines(prompt + "\n" for prompt in prompts)
        said = self.call(self.peer(PEER, "sample", "--weights", self.path("peer.pt"), "--output", self.path("peer_samples"),
                                   "--prompts", self.path("prompts.txt"), *words, *self.sampling()), "peer_sample")
        self.keep(peer=json.loads(said))

    def compare(self):
        """That the peer is the same model: with our weights it paints our images."""
        said = json.loads(self.call(self.peer(PEER, "compare", "--checkpoint", self.checkpoint(), "--samples",
                                              self.path("samples")), "same"))
        self.keep(same=said)
        if said["mean_levels"] > said["mean_levels_of_others"] / 5:
            self.fail(f"with our weights the peer should paint our images, they are {said['mean_levels']:.1f} levels apart, others "
                      f"{said['mean_levels_of_others']:.1f}")

    def training_lines(self):
        r, lines = self.result, []
        for who in ("ours", "peer"):
            if who in r:
                lines.append(f"{who}: {r[who]['parameters']} parameters, {r[who]['steps']} steps, last loss "
                             f"{r[who]['last_loss']:.4f}, trained in {r[who]['seconds']:.0f} s")
        if "same" in r:
            same = r["same"]
            lines.append(f"with our weights and noise the peer paints {same['images']} of our images {same['mean_levels']:.2f} levels "
                         f"of 255 apart (other images: {same['mean_levels_of_others']:.1f})")
        return lines

    def run(self, stages):
        """Those of a list with commas, then writes what table() says."""
        unknown = [stage for stage in stages.split(",") if stage not in self.stages()]
        if unknown:
            self.fail(f"--stages: wanted some of {', '.join(self.stages())}, got {unknown[0]}")
        for stage in stages.split(","):
            start = time.monotonic()
            print(f"{stage} ...", file=sys.stderr, flush=True)
            getattr(self, "stage_" + stage)()
            print(f"{stage}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
        with open(self.args.output + ".txt", "w", encoding="utf-8") as file:
            file.write(self.table())
        print(self.table(), end="")
