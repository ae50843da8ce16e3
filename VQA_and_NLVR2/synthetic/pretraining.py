"""Pre-training of the tiny FIBER on scenes of its own; what is learned: `pretrain_tiny`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2m2.errors import DataError, SettingsError
from i2m2.training.data import seed_everything
from VQA_and_NLVR2.backbones.base import trim_text
from VQA_and_NLVR2.backbones.fiber import FIBER, read_sizes
from VQA_and_NLVR2.backbones.tokenizer import load_tokenizer, tokenize
from VQA_and_NLVR2.synthetic.questions import (
    ANSWERS,
    COLOR,
    FAMILY,
    SHAPE,
    UNSAID,
    all_texts,
    ask,
)
from VQA_and_NLVR2.synthetic.scenes import (
    CELLS,
    COLORS,
    GROUNDS,
    SHAPES,
    SIDE,
    TIMES,
    Scenes,
    counts,
    draw,
    draw_scenes,
)
from VQA_and_NLVR2.synthetic.statements import statement_names, statement_truths, statements

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SCENES = 6000  # drawn once, each seen several times with other texts
TESTED = 256  # of them, kept for the accuracy that is printed
STEPS = 1200
IMAGES, QUESTIONS, STATEMENTS = 32, 4, 1  # images of a step, texts of each image
LEARNING_RATE, WARM_UP = 2e-3, 50
GATE = 1.0  # at FIBER's own start of 0 the fusion would first have to open
# Added to the seed; those of the data sets are below it, so that none of their scenes comes again
SEED = 20_000
CELL_KINDS = (len(SHAPES) + 1, len(COLORS) + 1, 3)  # nothing, or what it is
PRESENT = len(SHAPES) + len(COLORS) + len(GROUNDS) + len(TIMES)  # what a scene may have
GROUNDING = 5.0  # weight of the loss that few cells matter for
SHARPNESS = 10.0  # unimodal vectors have length 1

Right = dict[str, tuple[int, int]]  # {task: (right, of how many)}


class Texts(NamedTuple):
    """Texts [m] about some scenes."""

    text: Tensor
    scene: Tensor  # position of its scene among the scenes at hand
    answer: Tensor  # -1 for a statement
    true: Tensor  # whether a statement is


class Corpus:
    """Scenes, their pictures, and the texts: first every question in both phrasings, then every
    statement."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        rng: np.random.Generator,
        scenes: int,
    ) -> None:
        self.scenes = draw_scenes(rng, scenes)
        self.pictures = torch.from_numpy(draw(self.scenes, rng)).permute(0, 3, 1, 2)
        number = counts(self.scenes)
        self.truth = statement_truths(number)
        present = [
            number.any(axis=2),
            number.any(axis=1),
            np.eye(len(GROUNDS))[self.scenes.ground],
            np.eye(len(TIMES))[self.scenes.time],
        ]
        self.present = torch.from_numpy(np.concatenate(present, axis=1)).float()  # [n, PRESENT]
        self.cells = torch.from_numpy(_cells(self.scenes))
        self.questions = len(FAMILY)
        # Shape and colour that a text names, -1 for none: [texts, 2].
        shape, color = statement_names()
        shapes = np.concatenate([SHAPE, SHAPE, shape])
        colors = np.concatenate([COLOR, COLOR, color])
        self.names = torch.from_numpy(np.stack([shapes, colors], axis=1))
        ids, mask, cut = tokenize(tokenizer, all_texts() + statements(), max_length)
        if cut or (ids[mask] == tokenizer.unk_token_id).any():
            raise DataError(
                "the tokenizer does not know every word of the synthetic texts; make the data again"
            )
        self.ids, self.mask = torch.from_numpy(ids), torch.from_numpy(mask)

    def batch(self, rows: np.ndarray, rng: np.random.Generator) -> Texts:
        """Texts for some scenes."""
        asked = ask(self.scenes.take(rows), QUESTIONS, rng, without=UNSAID)
        text = asked.candidate + asked.phrasing * self.questions
        truth = self.truth[rows]
        # Half of the statements true, each of those that are there as likely.
        wanted = rng.random((len(rows), STATEMENTS)) < 0.5
        key = rng.random((STATEMENTS, *truth.shape)) * (truth == wanted.T[..., None])
        stated = key.argmax(axis=2).T  # [rows, STATEMENTS]
        texts = np.concatenate([text, 2 * self.questions + stated.ravel()])
        scene = np.concatenate([asked.scene, np.arange(len(rows)).repeat(STATEMENTS)])
        answer = np.concatenate([asked.truth, np.full(stated.size, -1)])
        true = np.concatenate([np.zeros(len(text)), wanted.ravel()]).astype(np.float32)
        return Texts(*map(torch.from_numpy, (texts, scene, answer, true)))

    def tokens(self, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Ids and mask, without padding that all of them have."""
        return trim_text(self.ids[texts], self.mask[texts])

    def spoken_of(self, texts: Tensor, cells: Tensor) -> Tensor:
        """Which cells hold what a text speaks of: texts [m], cells [m, CELLS, 3] -> [m, CELLS]."""
        name = self.names[texts][:, None]
        fits = (name < 0) | (cells[..., :2] == name + 1)
        return (fits.all(dim=2) & (cells[..., 0] > 0) & (name >= 0).any(dim=2)).float()


def _cells(scenes: Scenes) -> np.ndarray:
    """Shape, colour and size in each cell, 0 where it is empty: [n, CELLS, 3]."""
    cells = np.zeros((len(scenes.shape), CELLS, 3), np.int64)
    row, slot = np.nonzero(scenes.shape >= 0)
    things = np.stack([scenes.shape, scenes.color, scenes.big.astype(np.int64)], axis=-1)
    cells[row, scenes.cell[row, slot]] = things[row, slot] + 1
    return cells


class Heads(nn.ModuleDict):
    """What the pre-training reads from the vectors; none of it is kept."""

    def __init__(self, model: FIBER, texts: int) -> None:
        widths, cell = model.widths, model.vit_model.sizes.widths[2]
        super().__init__(
            {
                "there": nn.Linear(widths["image"], PRESENT),
                "text": nn.Linear(widths["text"], texts),
                "answer": nn.Linear(widths["fused"], len(ANSWERS)),
                "match": nn.Linear(widths["fused"], 1),
                "cells": nn.Linear(cell, sum(CELL_KINDS)),
                "grounded": nn.Linear(cell, 1),
            }
        )


@contextmanager
def _output_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """What the module gives while this lasts."""
    outputs: list[Tensor] = []
    handle = module.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()


def loss_of(
    model: FIBER, heads: Heads, corpus: Corpus, rows: np.ndarray, rng: np.random.Generator
) -> tuple[Tensor, Right]:
    """-> (sum of the losses, what was right)."""
    asked = corpus.batch(rows, rng)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (model.mean, model.std))
    image, image_state = model.encode_image((corpus.pictures[rows] / 255 - mean) / std)
    _, text_state = model.encode_text(*corpus.tokens(asked.text), vector=False)
    # They are few, and soon known.
    alone = torch.from_numpy(rng.integers(0, len(corpus.ids), len(rows)))
    text, _ = model.encode_text(*corpus.tokens(alone))
    with _output_of(model.vit_model.layers[2].blocks[-1]) as grid:  # one token for each cell
        fused = model.fuse(image_state[asked.scene], text_state)
    is_question, is_statement = asked.answer >= 0, asked.answer < 0
    answer, true = asked.answer[is_question], asked.true[is_statement]
    answers, match = heads["answer"](fused[is_question]), heads["match"](fused[is_statement])[:, 0]
    first = sum(model.sizes.swin.depths[:2])
    cells = heads["cells"](model.vit_model.downsample_before(image_state.tokens, first))
    cell = corpus.cells[rows]
    of_cells = [
        F.cross_entropy(part.flatten(0, 1), cell[..., kind].flatten())
        for kind, part in enumerate(cells.split(CELL_KINDS, dim=-1))
    ]
    grounded = heads["grounded"](grid[0])[..., 0]
    spoken_of = corpus.spoken_of(asked.text, cell[asked.scene])
    binary = F.binary_cross_entropy_with_logits
    loss = (
        F.cross_entropy(answers, answer)
        + binary(match, true)
        + 3 * binary(SHARPNESS * heads["there"](image), corpus.present[rows])
        + 0.3 * F.cross_entropy(SHARPNESS * heads["text"](text), alone)
        + GROUNDING * binary(grounded, spoken_of)
        + sum(of_cells)
    )
    right = {"answer": answers.argmax(1) == answer, "match": (match > 0) == (true > 0.5)}
    return loss, {name: (int(values.sum()), len(values)) for name, values in right.items()}


def initialise(model: FIBER) -> None:
    """Weights for narrow layers, whose activations the published 0.02 would make vanish; gates
    open."""
    for name, parameter in model.named_parameters():
        if "alpha" in name:
            nn.init.constant_(parameter, GATE)
        elif name.endswith("word_embeddings.weight"):
            nn.init.normal_(parameter, std=0.5)
        elif name.endswith("position_embeddings.weight"):
            nn.init.normal_(parameter, std=0.2)
        elif parameter.dim() == 2 and not name.endswith(
            ("bias_table", "token_type_embeddings.weight")
        ):
            nn.init.xavier_uniform_(parameter)


def build(sizes: Path, tokenizer_folder: Path) -> tuple[FIBER, PreTrainedTokenizerBase]:
    """The model with random weights, and its tokenizer. SettingsError for sizes that do not fit."""
    model = FIBER(read_sizes(sizes), tokenizer=str(tokenizer_folder))
    tokenizer = load_tokenizer(str(tokenizer_folder))
    if model.image_size != SIDE:
        raise SettingsError(
            f"{sizes}: swin.image_size {model.image_size} must be {SIDE}, "
            "the side of the synthetic pictures"
        )
    if len(tokenizer) > (size := model.sizes.roberta.vocab_size):
        raise SettingsError(
            f"{sizes}: roberta.vocab_size {size} is less than the {len(tokenizer)} tokens "
            f"of {tokenizer_folder}"
        )
    return model, tokenizer


def pretrain(
    sizes: Path, tokenizer_folder: Path, steps: int = STEPS, seed: int = 0
) -> tuple[FIBER, dict[str, float]]:
    """Train a tiny FIBER -> (model, {answer, match: accuracy on scenes kept apart})."""
    seed_everything(SEED + seed)
    rng = np.random.default_rng(SEED + seed)
    model, tokenizer = build(sizes, tokenizer_folder)
    corpus = Corpus(tokenizer, model.max_text_length, rng, SCENES)
    heads = Heads(model, len(corpus.ids))
    initialise(model)
    parameters = [*model.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / WARM_UP, max(0.02, 1 - step / steps))
    )
    model.train()
    began = time.perf_counter()
    sums: Right = {}
    for step in range(1, steps + 1):
        loss, right = loss_of(model, heads, corpus, rng.integers(TESTED, SCENES, IMAGES), rng)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        for name, (good, number) in right.items():
            before = sums.get(name, (0, 0))
            sums[name] = (before[0] + good, before[1] + number)
        if step % 200 == 0 or step == steps:
            shares = ", ".join(f"{name} {100 * a / b:.1f} %" for name, (a, b) in sums.items())
            seconds = f"{time.perf_counter() - began:.0f} s"
            print(f"step {step} of {steps}, {seconds}: right in training: {shares}", flush=True)
            sums = {}
    model.eval()
    with torch.no_grad():
        _, right = loss_of(model, heads, corpus, np.arange(TESTED), rng)
    return model, {name: good / number for name, (good, number) in right.items()}
