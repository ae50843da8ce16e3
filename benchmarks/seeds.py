"""Several seeds at once (`--seeds`) over one seed, as ratios measured in turn.

python -m benchmarks.seeds [--parts rows,convolutions] [--rows static,series,...] [--threads 1,2]

rows          an epoch, which is a pass over the training split and the predictions of the
              validation split: MIMIC's rows, on noise of the real form; an MLP of a table of one's
              own: 20 features, 64 hidden units, 5,000 rows
convolutions  a forward and backward pass of AV-MNIST's encoders: one after the other, and as
              convolutions by groups
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from AVMNIST_and_MIMIC.avmnist.experiment import BLOCKS, SHAPES
from AVMNIST_and_MIMIC.encoders import LeNet
from AVMNIST_and_MIMIC.mimic.experiment import build_model, load_mimic
from benchmarks.compared.mimic_loops import ROWS, config_of
from benchmarks.measuring.timing import alternate, beside, choices, machine, table
from benchmarks.mimic import STAYS, make_arrays
from i2m2.encoders.dense import mlp
from i2m2.errors import run_command
from i2m2.losses import negative_log_likelihood
from i2m2.machine.accelerator import make_accelerator
from i2m2.model import ProductOfExperts, UnimodalExpert
from i2m2.settings import OptimConfig, RunConfig
from i2m2.training.data import ArrayDataset, MultimodalDataset, seed_everything
from i2m2.training.evaluate import all_outputs, predict
from i2m2.training.loop import Trainer
from i2m2.training.run import Run
from i2m2.training.stack import Seed, StackTrainer

TABLE = "a table of one's own"
SEEDS = {TABLE: 10}  # else 5
TARGETS = {"static": "<= 1.6", TABLE: "<= 2"}
WIDTHS = (3, 6)  # of AV-MNIST's encoders: of unimodal experts, under a fusion

Build = Callable[[RunConfig], nn.Module]
Splits = tuple[MultimodalDataset, MultimodalDataset]  # train, val


class OneSeed:
    """The epochs of a run, without its files."""

    def __init__(self, config: RunConfig, model: nn.Module, splits: Splits) -> None:
        self.config, (self.train, self.val), self.epoch = config, splits, -1
        self.accelerator, loss = make_accelerator(config), negative_log_likelihood
        self.trainer = Trainer(model, config, self.accelerator, loss, None, len(self.train))

    def one_epoch(self) -> float:
        """-> the mean loss of the training examples."""
        self.epoch += 1
        loss = self.trainer.train_epoch(self.train, self.epoch)
        predict(self.trainer.model, self.val, self.accelerator, self.config.step_size)
        return loss


class SeveralSeeds:
    """The same of several seeds at once."""

    def __init__(
        self, configs: Sequence[RunConfig], models: Sequence[nn.Module], splits: Splits
    ) -> None:
        (self.train, self.val), self.epoch = splits, -1
        seeds = [
            Seed(Run(Path(), config), model, {"model": model.state_dict()})
            for config, model in zip(configs, models, strict=True)
        ]
        accelerator, loss = make_accelerator(configs[0]), negative_log_likelihood
        self.trainer = StackTrainer(seeds, accelerator, loss, len(self.train))

    def one_epoch(self) -> list[float]:
        self.epoch += 1
        losses = self.trainer.train_epoch(self.train, self.epoch)
        self.trainer.predict(self.val, all_outputs)
        return losses


def one_and_several(
    config: RunConfig, build: Build, splits: Splits, seeds: int
) -> tuple[OneSeed, SeveralSeeds]:
    """Seed 0 alone, and the first `seeds` seeds."""
    configs = [replace(config, seed=seed) for seed in range(seeds)]
    models = []
    for own in (configs[0], *configs):
        seed_everything(own.seed)
        models.append(build(own))
    splits = tuple(split.select(models[0].modalities) for split in splits)
    return OneSeed(config, models[0], splits), SeveralSeeds(configs, models[1:], splits)


def own_table() -> tuple[RunConfig, Build, Splits]:
    rng = np.random.default_rng(0)
    x, y = {"table": rng.normal(size=(6000, 20)).astype(np.float32)}, rng.integers(0, 2, 6000)
    rows = np.split(np.arange(6000), [5000])
    optim = OptimConfig(name="adamw", lr=1e-3)
    config = RunConfig(dataset="own", method="unimodal_table", device="cpu", optim=optim)
    return config, _mlp_of_table, tuple(ArrayDataset(x, y[part], part) for part in rows)


def _mlp_of_table(config: RunConfig) -> nn.Module:
    return ProductOfExperts({"table": UnimodalExpert("table", nn.Identity(), mlp(20, 64, 2))})


def rows_part(args: argparse.Namespace) -> str:
    with tempfile.TemporaryDirectory() as scratch:
        make_arrays(Path(scratch), args.stays)
        content = load_mimic(config_of("static", Path(scratch)))
        mimic = content.splits["train"], content.splits["val"]
        rows = []
        for row in args.rows:
            given = own_table() if row == TABLE else (config_of(row), build_model, mimic)
            cells, seeds = [], SEEDS.get(row, 5)
            for threads in map(int, args.threads):
                torch.set_num_threads(threads)
                one, several = one_and_several(*given, seeds)
                tasks = {"one": one.one_epoch, "several": several.one_epoch}
                seconds = alternate(tasks, args.rounds)
                cells += [f"{seconds[name]:.2f}" for name in tasks]
                target = TARGETS.get(row, "<= 2.5")
                cells += beside(seconds["several"] / seconds["one"], target)
            rows.append([row, seeds, *cells])
    columns = ["row", "seeds"]
    for threads in args.threads:
        cells = ("one, s", "at once, s", "at once / one", "target")
        columns += [f"{cell} ({threads} threads)" for cell in cells]
    return table(f"rows: an epoch, {args.rounds} rounds", columns, rows)


class Grouped(nn.Module):
    """LeNets as one: [S, B, 1, H, W] -> [S, B, features]. Channels of all lie side by side."""

    def __init__(self, nets: Sequence[LeNet]) -> None:
        super().__init__()
        self.models, self.blocks = len(nets), nn.Sequential()
        for alike in zip(*(net.blocks for net in nets), strict=True):
            first, outputs = alike[0][0], alike[0][0].out_channels * self.models
            shape = first.in_channels * self.models, outputs, first.kernel_size
            options = {"padding": first.padding, "groups": self.models, "bias": False}
            convolution = nn.Conv2d(*shape, **options)
            convolution.weight.data = torch.cat([block[0].weight.data for block in alike])
            rest = nn.BatchNorm2d(outputs), nn.MaxPool2d(2), nn.ReLU()
            self.blocks.extend([convolution, *rest])

    def forward(self, x: Tensor) -> Tensor:
        features = self.blocks(x.transpose(0, 1).flatten(1, 2))
        return features.flatten(1).unflatten(1, (self.models, -1)).transpose(0, 1)


def convolutions_part(args: argparse.Namespace) -> str:
    rows = []
    for threads in map(int, args.threads):
        torch.set_num_threads(threads)
        for modality in BLOCKS:
            for width in WIDTHS:
                nets = [LeNet(width, BLOCKS[modality]) for _ in range(5)]
                x = torch.rand(5, 40, 1, *SHAPES[modality])
                grouped = Grouped(nets)

                def in_turn(nets: Sequence[LeNet] = nets, x: Tensor = x) -> None:
                    for net, own in zip(nets, x, strict=True):
                        net(own).sum().backward()

                def at_once(grouped: Grouped = grouped, x: Tensor = x) -> None:
                    grouped(x).sum().backward()

                seconds = alternate({"in turn": in_turn, "grouped": at_once}, args.rounds)
                ratio = seconds["grouped"] / seconds["in turn"]
                rows.append([f"{modality}, width {width}", threads, f"{ratio:.2f}"])
    title = f"convolutions: five encoders, {args.rounds} rounds"
    return table(title, ["encoder", "threads", "grouped / one after the other"], rows)


PARTS = {"rows": rows_part, "convolutions": convolutions_part}


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--parts", type=choices(PARTS), default=",".join(PARTS), help="separated by commas")
    names = [*(row for row in ROWS if config_of(row).seeds_at_once), TABLE]
    add("--rows", type=choices(names), default=",".join(names), help="separated by commas")
    threads = "numbers of CPU threads, separated by commas"
    add("--threads", type=choices("1234"), default="1,2", help=threads)
    add("--rounds", type=int, default=5, help="that count, after one to warm up")
    add("--stays", type=int, default=STAYS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    print(f"Machine: {machine()}", flush=True)
    for name, part in PARTS.items():
        if name in args.parts:
            print(part(args), flush=True)


if __name__ == "__main__":
    run_command(main)
