"""Weights for the tiny FIBER, learned on synthetic scenes: a stand-in for FIBER's pre-training,
minutes on 2 cores.

python -m VQA_and_NLVR2.pretrain_tiny --data data/vqa_vs-synthetic --out data/fiber_tiny.ckpt

The scenes are drawn for this alone: no picture, question or answer of a data set is read, only its
tokenizer. They have no habits (any shape has any colour), so that the weights bring no knowledge of
the data sets' language prior. What is learned:

* image-only vector: which shapes, colours, ground and time of day are there; text-only vector:
  which text it is, both for FIBER's contrastive loss;
* fused vector: the answer to a question, for FIBER's masked words, and whether a statement is true
  of the image, for its matching. Captions speak of things, hardly of the time of day, so that these
  texts do not either (`synthetic_vqa.UNSAID`);
* the image's tokens: what stands in each cell, for Swin's pre-training on ImageNet, and, once text
  has come in, whether it is what the text speaks of, for FIBER's second stage, which grounds
  phrases.

The file has FIBER's published layout and parameter names, and is loaded like the published one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2m2.errors import CommandParser, DataError, SettingsError, run_command
from i2m2.files import write_atomic
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
    statement_names,
    statement_truths,
    statements,
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

SIZES = Path(__file__).parent / "configs/fiber_tiny.json"
SCENES = 6000  # drawn once, each seen several times with other texts
TESTED = 256  # of them, kept for the accuracy that is printed
STEPS, IMAGES, QUESTIONS, STATEMENTS = (
    1200,
    32,
    4,
    1,
)  # steps; images of a step, texts of each image
LEARNING_RATE, WARM_UP = 2e-3, 50
GATE = 1.0  # at FIBER's own start of 0 the fusion would first have to open
# Added to the seed; those of the data sets are below it, so that none of their scenes comes again
SEED = 20_000
CELL_KINDS = (len(SHAPES) + 1, len(COLORS) + 1, 3)  # nothing, or what it is
GROUNDING = 5.0  # weight of the loss that few cells matter for
SHARPNESS = 10.0  # unimodal vectors have length 1


class Corpus:
    """Scenes, their pictures, and the texts: first every question in both phrasings, then every
    statement."""

    def __init__(self, tokenizer, max_length: int, rng: np.random.Generator, scenes: int) -> None:
        self.scenes = draw_scenes(rng, scenes)
        self.pictures = torch.from_numpy(draw(self.scenes, rng)).permute(0, 3, 1, 2)
        number = counts(self.scenes)
        self.truth = statement_truths(number)
        whole = (np.eye(len(GROUNDS))[self.scenes.ground], np.eye(len(TIMES))[self.scenes.time])
        there = (number.any(axis=2), number.any(axis=1), *whole)
        self.there = torch.from_numpy(
            np.concatenate(there, axis=1)
        ).float()  # [n, shapes + colours + grounds + times]
        self.cells = torch.from_numpy(_cells(self.scenes))
        self.questions = len(FAMILY)
        names = (
            np.concatenate([one, one, said])
            for one, said in zip((SHAPE, COLOR), statement_names(), strict=True)
        )
        self.names = torch.from_numpy(
            np.stack(list(names), axis=1)
        )  # [texts, 2]: shape and colour, -1 for none
        ids, mask, cut = tokenize(tokenizer, all_texts() + statements(), max_length)
        if cut or (ids[mask] == tokenizer.unk_token_id).any():
            raise DataError(
                "the tokenizer does not know every word of the synthetic texts; make the data again"
            )
        self.ids, self.mask = torch.from_numpy(ids), torch.from_numpy(mask)

    def batch(
        self, rows: np.ndarray, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Texts for some scenes: (text [m], its scene's position in `rows` [m], answer or -1 [m],
        true or not [m])."""
        asked = ask(self.scenes.take(rows), QUESTIONS, rng, without=UNSAID)
        text = asked.candidate + asked.phrasing * self.questions
        truth = self.truth[rows]
        # Half of the statements true, each of those that are there as likely.
        wanted = rng.random((len(rows), STATEMENTS)) < 0.5
        key = rng.random((STATEMENTS, *truth.shape)) * (truth == wanted.T[..., None])
        stated = key.argmax(axis=2).T  # [rows, STATEMENTS]
        texts = np.concatenate([text, 2 * self.questions + stated.ravel()])
        owner = np.concatenate([asked.scene, np.arange(len(rows)).repeat(STATEMENTS)])
        answer = np.concatenate([asked.truth, np.full(stated.size, -1)])
        true = np.concatenate([np.zeros(len(text)), wanted.ravel()])
        return tuple(
            torch.from_numpy(part) for part in (texts, owner, answer, true.astype(np.float32))
        )

    def spoken_of(self, texts: Tensor, cells: Tensor) -> Tensor:
        """Which cells hold what a text speaks of: texts [m], cells [m, CELLS, 3] -> [m, CELLS]."""
        name = self.names[texts][:, None]
        fits = (name < 0) | (cells[..., :2] == name + 1)
        return (fits.all(dim=2) & (cells[..., 0] > 0) & (name >= 0).any(dim=2)).float()


def _cells(scenes: Scenes) -> np.ndarray:
    """Shape, colour and size in each cell, 0 where it is empty: [n, CELLS, 3]."""
    cells = np.zeros((len(scenes.shape), CELLS, 3), np.int64)
    row, slot = np.nonzero(scenes.shape >= 0)
    what = np.stack(
        [
            values[row, slot] + 1
            for values in (scenes.shape, scenes.color, scenes.big.astype(np.int64))
        ],
        axis=1,
    )
    cells[row, scenes.cell[row, slot]] = what
    return cells


class Heads(nn.ModuleDict):
    """What the pre-training reads from the vectors; none of it is kept."""

    def __init__(self, model: FIBER, texts: int) -> None:
        widths, cell = model.widths, model.vit_model.sizes.widths[2]
        super().__init__(
            {
                "there": nn.Linear(
                    widths["image"], len(SHAPES) + len(COLORS) + len(GROUNDS) + len(TIMES)
                ),
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
    kept: list[Tensor] = []
    handle = module.register_forward_hook(lambda module, inputs, output: kept.append(output))
    try:
        yield kept
    finally:
        handle.remove()


def loss_of(
    model: FIBER, heads: Heads, corpus: Corpus, rows: np.ndarray, rng: np.random.Generator
) -> tuple[Tensor, dict[str, tuple[float, int]]]:
    """-> (sum of the losses, {what: (right, of how many)})."""
    texts, owner, answer, true = corpus.batch(rows, rng)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (model.mean, model.std))
    image, image_state = model.encode_image((corpus.pictures[rows] / 255 - mean) / std)
    _, text_state = model.encode_text(
        *trim_text(corpus.ids[texts], corpus.mask[texts]), vector=False
    )
    alone = torch.from_numpy(
        rng.integers(0, len(corpus.ids), len(rows))
    )  # they are few, and soon known
    text, _ = model.encode_text(*trim_text(corpus.ids[alone], corpus.mask[alone]))
    with _output_of(model.vit_model.layers[2].blocks[-1]) as grid:  # one token for each cell
        fused = model.fuse(image_state[owner], text_state)
    asked, stated = answer >= 0, answer < 0
    answers, match = heads["answer"](fused[asked]), heads["match"](fused[stated])[:, 0]
    cells = heads["cells"](
        model.vit_model.entering(image_state.tokens, sum(model.sizes.swin.depths[:2]))
    )
    grounded = heads["grounded"](grid[0])[..., 0]
    loss = (
        F.cross_entropy(answers, answer[asked])
        + F.binary_cross_entropy_with_logits(match, true[stated])
        + 3
        * F.binary_cross_entropy_with_logits(SHARPNESS * heads["there"](image), corpus.there[rows])
        + 0.3 * F.cross_entropy(SHARPNESS * heads["text"](text), alone)
        + GROUNDING
        * F.binary_cross_entropy_with_logits(
            grounded, corpus.spoken_of(texts, corpus.cells[rows][owner])
        )
        + sum(
            F.cross_entropy(part.flatten(0, 1), corpus.cells[rows, :, kind].flatten())
            for kind, part in enumerate(cells.split(CELL_KINDS, dim=-1))
        )
    )
    right = {
        "answer": answers.argmax(1) == answer[asked],
        "match": (match > 0) == (true[stated] > 0.5),
    }
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


def pretrain(
    sizes: Path, tokenizer_folder: Path, steps: int = STEPS, seed: int = 0
) -> tuple[FIBER, dict[str, float]]:
    """Train a tiny FIBER -> (model, {answer, match: accuracy on scenes kept apart}). SettingsError
    for sizes that do not fit."""
    seed_everything(SEED + seed)
    rng = np.random.default_rng(SEED + seed)
    model = FIBER(read_sizes(sizes), tokenizer=str(tokenizer_folder))
    tokenizer = load_tokenizer(str(tokenizer_folder))
    if model.image_size != SIDE:
        raise SettingsError(
            f"{sizes}: swin.image_size {model.image_size} must be {SIDE}, the side of the synthetic pictures"
        )
    if len(tokenizer) > model.sizes.roberta.vocab_size:
        size = model.sizes.roberta.vocab_size
        raise SettingsError(
            f"{sizes}: roberta.vocab_size {size} is less than the {len(tokenizer)} tokens of {tokenizer_folder}"
        )
    corpus = Corpus(tokenizer, model.max_text_length, rng, SCENES)
    heads = Heads(model, len(corpus.ids))
    initialise(model)
    parameters = [*model.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / WARM_UP, max(0.02, 1 - step / steps))
    )
    model.train()
    began, sums = time.perf_counter(), {}
    for step in range(1, steps + 1):
        loss, right = loss_of(model, heads, corpus, rng.integers(TESTED, SCENES, IMAGES), rng)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        sums = {
            name: tuple(map(sum, zip(pair, sums.get(name, (0, 0)), strict=True)))
            for name, pair in right.items()
        }
        if step % 200 == 0 or step == steps:
            said = ", ".join(f"{name} {100 * good / of:.1f} %" for name, (good, of) in sums.items())
            print(
                f"step {step} of {steps}, {time.perf_counter() - began:.0f} s: right in training: {said}",
                flush=True,
            )
            sums = {}
    model.eval()
    with torch.no_grad():
        _, right = loss_of(model, heads, corpus, np.arange(TESTED), rng)
    return model, {name: good / of for name, (good, of) in right.items()}


def main(argv: list[str] | None = None) -> None:
    """Pre-train and write the file."""
    parser = CommandParser(
        "pretrain_tiny",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder made by make_synthetic, for its tokenizer",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="weights to write")
    parser.add_argument(
        "--sizes", type=Path, default=SIZES, metavar="FILE", help="default: configs/fiber_tiny.json"
    )
    parser.add_argument("--steps", type=int, default=STEPS, help=f"default: {STEPS}")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--threads", type=int, default=None, help="default: PyTorch's")
    args = parser.parse_args(argv)
    if args.steps < 1 or args.seed < 0 or (args.threads is not None and args.threads < 1):
        raise SettingsError(
            f"--steps {args.steps} and --threads {args.threads} must be at least 1, --seed {args.seed} at least 0"
        )
    if args.out.exists():
        raise SettingsError(f"{args.out} exists; remove it or give another --out")
    folder = args.data / "tokenizer"
    if not folder.is_dir():
        raise DataError(
            f"{folder} is missing; make the data with python -m VQA_and_NLVR2.make_synthetic"
        )
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    model, accuracy = pretrain(args.sizes, folder, args.steps, args.seed)
    write_atomic(args.out, lambda path: torch.save({"state_dict": model.state_dict()}, path))
    said = ", ".join(f"{name} {100 * value:.1f} %" for name, value in accuracy.items())
    print(
        f"SYNTHETIC pre-training ({args.steps} steps, seed {args.seed}); on {TESTED} scenes not trained on: {said}"
    )
    print(f"written: {args.out}")


if __name__ == "__main__":
    run_command(main)
