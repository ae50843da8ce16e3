"""What can be said of one synthetic scene, true or not, for the tiny FIBER's pre-training."""

from __future__ import annotations

import numpy as np

from VQA_and_NLVR2.synthetic.scenes import COLORS, SHAPES, article


def statements() -> list[str]:
    """Each in the words of a left and of a right image, which make no difference to one image. In
    the order of `statement_names`."""
    made = []
    for side in ("left", "right"):
        made += [f"The {side} image contains a {s}." for s in SHAPES]
        made += [f"There is something {c} in the {side} image." for c in COLORS]
        made += [f"The {side} image contains {article(c)} {c} {s}." for s in SHAPES for c in COLORS]
        made += [f"There is no {s} in the {side} image." for s in SHAPES]
        made += [f"Nothing in the {side} image is {c}." for c in COLORS]
    return made


def statement_names() -> tuple[np.ndarray, np.ndarray]:
    """The shape and the colour that each statement names, -1 where it names none."""
    shapes, colors = np.arange(len(SHAPES)), np.arange(len(COLORS))
    no_shape, no_color = np.full(len(COLORS), -1), np.full(len(SHAPES), -1)
    shape = np.concatenate([shapes, no_shape, shapes.repeat(len(COLORS)), shapes, no_shape])
    color = np.concatenate([no_color, colors, np.tile(colors, len(SHAPES)), no_color, colors])
    return np.tile(shape, 2), np.tile(color, 2)


def statement_truths(number: np.ndarray) -> np.ndarray:
    """Whether each statement is true of scenes with these counts [n, shapes, colours]: [n,
    statements] bool."""
    present = number > 0
    shape, color = present.any(axis=2), present.any(axis=1)
    both = present.reshape(len(number), -1)
    return np.tile(np.concatenate([shape, color, both, ~shape, ~color], axis=1), 2)
