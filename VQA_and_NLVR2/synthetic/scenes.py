"""Pictures of coloured shapes for the synthetic VQA-VS and NLVR2: what stands where, and its
drawing.

A scene is 2 to 5 things on a ground, 64 x 64 pixels, one thing at most in each of 4 x 4 cells of 16
pixels. Everything is an array over scenes; nothing loops over them but the writing of files.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

SHAPES = ("circle", "square", "triangle", "diamond", "cross", "ring")
COLORS = ("red", "blue", "green", "yellow", "purple", "orange", "pink", "black")
GROUNDS = ("grass", "sand", "snow", "water", "brick", "wood")
TIMES = ("noon", "morning", "evening", "night")
SIDE = 64  # pixels
CELL = 16  # pixels
CELLS = (SIDE // CELL) ** 2
SLOTS = 5  # things of a scene at most

HABIT = np.array([0, 1, 0, 2, 1, 3])  # the usual colour of each shape, where scenes have habits
RGB = np.array(
    [
        (214, 40, 40), (45, 85, 215), (30, 150, 60), (240, 215, 40),
        (130, 45, 165), (240, 135, 25), (245, 140, 195), (20, 20, 24),
    ]
)  # fmt: skip
GROUND_RGB = np.array(
    [
        (112, 146, 96), (205, 186, 146), (226, 230, 236),
        (120, 160, 186), (168, 112, 92), (150, 122, 84),
    ]
)  # fmt: skip
TIME_TINT = np.array(
    [(1.0, 1.0, 1.0), (1.0, 0.9, 0.78), (0.9, 0.74, 0.72), (0.62, 0.66, 0.84)], np.float32
)
# Height and width of the grains of each ground, pixels.
GROUND_GRAIN = np.array([(1, 1), (1, 1), (4, 4), (2, 8), (4, 8), (16, 2)])


class Scenes(NamedTuple):
    """n scenes. A slot that holds nothing has shape -1; slot 0 always holds the key thing, which is
    big."""

    shape: np.ndarray  # [n, SLOTS] index into SHAPES, or -1
    color: np.ndarray  # [n, SLOTS] index into COLORS
    big: np.ndarray  # [n, SLOTS] bool
    cell: np.ndarray  # [n, SLOTS] 0..15, row by row
    ground: np.ndarray  # [n] index into GROUNDS
    time: np.ndarray  # [n] index into TIMES

    def take(self, rows: np.ndarray) -> Scenes:
        """The scenes of these rows."""
        return Scenes(*(values[rows] for values in self))


def draw_scenes(
    rng: np.random.Generator,
    n: int,
    *,
    things: tuple[int, int] = (3, 5),
    habit: float = 0.0,
    tone: float = 0.3,
) -> Scenes:
    """n scenes with `things` (fewest, most) things.

    A thing takes the usual colour of its shape with probability `habit`, the scene's own tone (one
    colour for each scene) with probability `tone`, else any colour. With habits some grounds and
    times are common and others rare, else all alike.
    """
    shape = rng.permuted(np.tile(np.arange(len(SHAPES)), (n, 1)), axis=1)[:, :SLOTS]
    twin = rng.random(n) < 0.35
    shape[twin, 1] = shape[twin, 0]
    color = rng.integers(len(COLORS), size=shape.shape)
    kind = rng.random(shape.shape)
    scene_tone = rng.integers(len(COLORS), size=(n, 1))
    color = np.where(kind < habit + tone, scene_tone, color)
    color = np.where(kind < habit, HABIT[shape], color)
    big = rng.random(shape.shape) < 0.4
    big[:, 0] = True
    cell = rng.permuted(np.tile(np.arange(CELLS), (n, 1)), axis=1)[:, :SLOTS]
    ground = rng.choice(len(GROUNDS), n, p=_shares(len(GROUNDS), habit))
    time = rng.choice(len(TIMES), n, p=_shares(len(TIMES), habit))
    shape[np.arange(SLOTS) >= rng.integers(things[0], things[1] + 1, size=(n, 1))] = -1
    return Scenes(shape, color, big, cell, ground, time)


def _shares(size: int, habit: float) -> np.ndarray:
    """How often each of `size` grounds or times occurs: all alike without habits, else each less
    than the one before."""
    shares = (1 - habit) ** np.arange(size)
    return shares / shares.sum()


def counts(scenes: Scenes) -> np.ndarray:
    """How many things of each shape and colour: [n, shapes, colours]."""
    number = np.zeros((len(scenes.shape), len(SHAPES), len(COLORS)), np.int64)
    row, slot = np.nonzero(scenes.shape >= 0)
    np.add.at(number, (row, scenes.shape[row, slot], scenes.color[row, slot]), 1)
    return number


def draw(scenes: Scenes, rng: np.random.Generator) -> np.ndarray:
    """Pictures [n, SIDE, SIDE, 3] uint8. Light falls from the upper left, so that a patch shows
    where in the picture it lies."""
    margin = 2
    whole = SIDE + 2 * margin
    canvas = np.empty((len(scenes.shape), whole, whole, 3), np.float32)
    slope = np.linspace(1, -1, whole, dtype=np.float32)
    light = (22 * slope[:, None] + 12 * slope)[..., None]
    for ground, (base, (height, width)) in enumerate(zip(GROUND_RGB, GROUND_GRAIN, strict=True)):
        rows = np.flatnonzero(scenes.ground == ground)
        grid = (len(rows), -(-whole // height), -(-whole // width))
        grains = rng.normal(0, 11, grid).astype(np.float32)
        grains = grains.repeat(height, axis=1).repeat(width, axis=2)[:, :whole, :whole, None]
        canvas[rows] = base + light + grains
    stamps, pixel = _stamps(), np.arange(CELL)
    shade = rng.normal(0, 7, (*scenes.shape.shape, 3))
    jitter = rng.integers(-1, 2, (2, *scenes.shape.shape)) + margin
    for slot in range(SLOTS):
        rows = np.flatnonzero(scenes.shape[:, slot] >= 0)
        cell = scenes.cell[rows, slot]
        y = (cell // (SIDE // CELL) * CELL + jitter[0, rows, slot])[:, None, None] + pixel[:, None]
        x = (cell % (SIDE // CELL) * CELL + jitter[1, rows, slot])[:, None, None] + pixel
        cover = stamps[scenes.shape[rows, slot], scenes.big[rows, slot].astype(int)][..., None]
        paint = (RGB[scenes.color[rows, slot]] + shade[rows, slot])[:, None, None]
        place = (rows[:, None, None], y, x)
        canvas[place] = canvas[place] * (1 - cover) + paint * cover
    canvas *= TIME_TINT[scenes.time, None, None]
    return canvas[:, margin:-margin, margin:-margin].clip(0, 255).astype(np.uint8)


def plural(shape: str) -> str:
    return shape + ("es" if shape.endswith("s") else "s")


def article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _stamps() -> np.ndarray:
    """Cover of each pixel of a cell, 0..1, by shape and size (small, big): [shapes, 2, CELL,
    CELL]."""
    fine = 4
    axis = (np.arange(CELL * fine) + 0.5) / fine - CELL / 2
    y, x = np.meshgrid(axis, axis, indexing="ij")
    stamps = []
    for radius in (4.0, 6.5):
        u, v = x / radius, y / radius
        r = np.hypot(u, v)
        inside = [
            r < 1,
            np.maximum(abs(u), abs(v)) < 0.88,
            (v < 0.8) & (v > 2 * abs(u) - 1.0),
            abs(u) + abs(v) < 1.1,
            (np.minimum(abs(u), abs(v)) < 0.3) & (np.maximum(abs(u), abs(v)) < 1),
            (r < 1.05) & (r > 0.55),
        ]
        parts = np.stack(inside).reshape(len(SHAPES), CELL, fine, CELL, fine)
        stamps.append(parts.mean(axis=(2, 4)))
    return np.stack(stamps, axis=1).astype(np.float32)


def save_pictures(paths: list[Path], pictures: np.ndarray, jpeg: np.ndarray) -> None:
    """Write pictures[i] to paths[i], as JPEG where jpeg[i], else as PNG, whatever the name says."""
    for path, picture, lossy in zip(paths, pictures, jpeg, strict=True):
        image = Image.fromarray(picture)
        if lossy:
            image.save(path, "JPEG", quality=95, subsampling=0)
        else:
            image.save(path, "PNG", compress_level=1)
