"""A scene worked out by hand, and what tells two folders of generated data apart."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from VQA_and_NLVR2.synthetic.scenes import COLORS, GROUNDS, SHAPES, SLOTS, TIMES, Scenes


def hashes(folder: Path) -> dict[str, str]:
    """{path: hash} of every file."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    contents = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    return {path: hashlib.sha256(content).hexdigest() for path, content in contents.items()}


def one_scene(
    *things: tuple[str, str, bool, int], ground: str = "sand", time: str = "noon"
) -> Scenes:
    """A scene of (shape, colour, big, cell)."""
    scene = Scenes(
        shape=np.full((1, SLOTS), -1),
        color=np.zeros((1, SLOTS), int),
        big=np.zeros((1, SLOTS), bool),
        cell=np.arange(11, 16)[None].copy(),
        ground=np.array([GROUNDS.index(ground)]),
        time=np.array([TIMES.index(time)]),
    )
    for slot, (shape, color, big, cell) in enumerate(things):
        scene.shape[0, slot], scene.color[0, slot] = SHAPES.index(shape), COLORS.index(color)
        scene.big[0, slot], scene.cell[0, slot] = big, cell
    return scene


SCENE = one_scene(
    ("circle", "red", True, 0),
    ("square", "blue", False, 7),
    ("ring", "red", False, 13),
    ("ring", "pink", False, 2),
)
