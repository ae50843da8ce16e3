"""Part `gru` of benchmarks/mimic.py: where a step's time goes, and ways to spend less."""

from __future__ import annotations

import copy
import time
from collections import defaultdict
from statistics import median

import numpy as np
import torch
from torch import nn

from AVMNIST_and_MIMIC.mimic.arrays import SERIES
from benchmarks.compared.mimic_loops import TorchGRU, config_of, new_model
from benchmarks.compared.training import Ours, compare, replaced, update_row
from benchmarks.measuring.timing import table
from i2m2.encoders.series import SeriesGRU
from i2m2.training.data import ArrayDataset, to_device


class Laps:
    """Seconds, one after another, by what they were spent on."""

    def __init__(self) -> None:
        self.spent, self.began = defaultdict(list), time.perf_counter()

    def lap(self, name: str | None = None) -> None:
        """Count the time since the last lap for `name`, or for nothing."""
        now = time.perf_counter()
        if name:
            self.spent[name].append(now - self.began)
        self.began = now


def step_by_step(ours: Ours, steps: int) -> dict[str, float]:
    """Median seconds of the parts of a step, done one after another.

    Beside them: of the series encoders by themselves.
    """
    model, size, laps = ours.model, ours.config.optim.batch_size, Laps()
    kinds = (SeriesGRU, TorchGRU)
    encoders = nn.ModuleList(module for module in model.modules() if isinstance(module, kinds))
    optimizer, loss_of = ours.trainer.optimizer, ours.trainer.loss
    for step in range(steps):
        positions = np.arange(step * size, (step + 1) * size) % len(ours.train)
        laps.lap()
        batch = to_device(ours.train[positions], torch.device("cpu"), ours.train.prepare)
        laps.lap("gather")
        loss = loss_of(model(batch["inputs"])[0], batch["y"]).mean()
        laps.lap("forward")
        loss.backward()
        laps.lap("backward")
        nn.utils.clip_grad_norm_(model.parameters(), ours.config.optim.clip_norm)
        laps.lap("clip")
        optimizer.step()
        optimizer.zero_grad()
        laps.lap("update")
        features = [encoder(batch["inputs"]["series"]) for encoder in encoders]
        laps.lap("series forward")
        torch.autograd.backward(features, [torch.ones_like(x) for x in features])
        laps.lap("series backward")
        encoders.zero_grad()
    return {name: median(seconds) for name, seconds in laps.spent.items()}


def seconds_of_step(ours: Ours) -> float:
    """Median of our real loop: of the time from one look at the loss to the next."""
    laps, plain = Laps(), ours.trainer.loss
    ours.trainer.loss = lambda log_prob, y: laps.lap("step") or plain(log_prob, y)
    ours.one_pass()
    ours.trainer.loss = plain
    return median(laps.spent["step"][1:])


def split_of_step(
    row: str, train: ArrayDataset, steps: int, rounds: int
) -> dict[str, dict[str, float]]:
    """{series encoder: {part of a step: median seconds}} for `nn.GRU` and ours, in turn."""
    config = config_of(row)
    models = {"nn.GRU": replaced(new_model(config), SeriesGRU, TorchGRU), "ours": new_model(config)}
    loops = {name: Ours(config, model, train) for name, model in models.items()}
    turns = {name: [] for name in loops}
    for _ in range(rounds + 1):
        for name, ours in loops.items():
            turns[name].append(step_by_step(ours, steps) | {"step": seconds_of_step(ours)})
    return {name: _parts(_medians(of_loop[1:])) for name, of_loop in turns.items()}


def _medians(turns: list[dict[str, float]]) -> dict[str, float]:
    return {part: median(turn[part] for turn in turns) for part in turns[0]}


def _parts(seconds: dict[str, float]) -> dict[str, float]:
    """From what was timed to parts that add up to the step."""
    parts = {
        "gathering the batch": seconds["gather"],
        "forward: series encoders": seconds["series forward"],
        "forward: the rest, loss": seconds["forward"] - seconds["series forward"],
        "backward: series encoders": seconds["series backward"],
        "backward: the rest": seconds["backward"] - seconds["series backward"],
        "clipping": seconds["clip"],
        "update": seconds["update"],
    }
    return parts | {
        "the loop around them": seconds["step"] - sum(parts.values()),
        "the whole step": seconds["step"],
    }


def step_table(row: str, seconds: dict[str, dict[str, float]], threads: int) -> str:
    wholes = {name: parts["the whole step"] for name, parts in seconds.items()}
    lines = []
    for part in seconds["ours"]:
        cells = [part]
        for name, whole in wholes.items():
            spent = seconds[name][part]
            cells += [f"{spent * 1e3:.2f}", f"{spent / whole:.0%}"]
        lines.append(cells)
    columns = [""]
    for name in seconds:
        columns += [f"{name}, ms", f"{name}, share"]
    ratio = wholes["nn.GRU"] / wholes["ours"]
    title = f"gru: a step of {row}, {threads} threads; nn.GRU / ours: {ratio:.2f}"
    return table(title, columns, lines)


def encoder_table(train: ArrayDataset, threads: int, rounds: int, steps: int) -> str:
    """Ways to run the series encoder."""
    torch.manual_seed(0)
    encoder, x = SeriesGRU(len(SERIES), 30), train[np.arange(40)]["inputs"]["series"]
    ways = {
        "ours": encoder,
        "nn.GRU": TorchGRU(copy.deepcopy(encoder)),
        "nn.GRU, time first": TorchGRU(copy.deepcopy(encoder), time_first=True),
    }
    lines = []
    for n in sorted({1, threads}):
        times = compare(ways, dict.fromkeys(ways, x), n, rounds, steps)
        (ours, _, _), *others = times.values()
        cells = [f"{s / ours:.2f} ({f:.0e}, {g:.0e})" for s, f, g in others]
        lines.append([n, f"{ours * 1e3:.2f}", *cells])
    title = (
        "gru: forward and backward of 40 stays; "
        "others: time / ours (relative difference of features, of gradients)"
    )
    return table(title, ["threads", "ours, ms", *list(ways)[1:]], lines)


def update_table(rows: list[str], rounds: int, steps: int) -> str:
    """Implementations of RMSprop."""
    lines = []
    for row in rows:
        ways = update_row(new_model(config_of(row)), rounds, steps, "rmsprop")
        cells = [row]
        for seconds, difference in ways.values():
            cells += [f"{seconds * 1e6:.0f}", f"{difference:.0e}"]
        lines.append(cells)
    columns = ["row"]
    for name in ways:
        columns += [f"{name}, µs", f"{name}, difference"]
    return table("gru: one step of RMSprop", columns, lines)
