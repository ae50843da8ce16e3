"""Draw some prepared slices with the boxes of their annotations.

python -m fastMRI.pictures data/fastmri --annotations knee.csv

Each slice is a row: magnitude, phase, RSS. A person sees at once whether geometry, labels and scale
fit. With --geometry official_code, which stretches magnitude and phase, their boxes are stretched
likewise.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastMRI.preparation.fourier import PADDED_WIDTH, SIZE
from fastMRI.preparation.labels import LABELS, annotation_rows, label_of
from i2m2.errors import CommandParser, DataError, SettingsError, run_command

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fastMRI.preparation.facts import DatasetFacts

COLOURS = {"others": "#ffcc33", "meniscus": "#ff5555", "acl": "#55ddff", "cartilage": "#77ee77"}
SHOWN = 6

SliceKey = tuple[str, int]  # (volume, slice)


class Box(NamedTuple):
    """An annotation, in pixels of the published 320 x 320 image."""

    label: str
    left: float  # column
    top: float  # row
    width: float
    height: float


Boxes = dict[SliceKey, list[Box]]


def main(argv: list[str] | None = None) -> None:
    """Write slices.png into the prepared folder, or where --out says."""
    args = _parser().parse_args(argv)
    if args.slices < 1 or args.seed < 0:
        raise SettingsError(
            f"--slices {args.slices} --seed {args.seed}: at least one slice, and a seed from 0"
        )
    from fastMRI.preparation import cache  # needs h5py, and --help does not

    facts, boxes = cache.read_facts(args.folder), read_boxes(args.annotations)
    made_with = facts.labelled_with["annotations"]
    if made_with != cache.stamp(args.annotations):
        raise DataError(
            f"{args.annotations} is not the file {args.folder} was labelled with ({made_with}); "
            "give that one"
        )
    from i2m2.report.figures import write_figure  # slow to import

    slices = choose(boxes, set(cache.volumes_in(args.folder)), args.slices, args.seed)
    if not slices:
        raise DataError(f"{args.annotations}: no box of any volume in {args.folder}")
    out = args.out or args.folder / "slices.png"
    figure = draw(args.folder, slices, boxes, facts)
    write_figure(figure, out, "png")
    print(f"written: {out} ({', '.join(f'{volume} slice {index}' for volume, index in slices)})")


def read_boxes(path: Path) -> Boxes:
    """Boxes of knee.csv, where images stand upside down; rows without one are left out."""
    boxes: Boxes = {}
    for place, row in annotation_rows(path):
        if row["study_level"].strip().lower() == "yes" or not row.get("width", "").strip():
            continue
        try:
            x, y, width, height = (float(row[name]) for name in ("x", "y", "width", "height"))
            volume, index = row["file"].strip().removesuffix(".h5"), int(row["slice"])
        except (KeyError, ValueError) as error:
            raise DataError(
                f"{place}: no box can be read ({error!r}); fix the line, or download the file again"
            ) from error
        box = Box(label_of(row["label"].strip()), x, SIZE - y - height, width, height)
        boxes.setdefault((volume, index), []).append(box)
    return boxes


def choose(boxes: Boxes, volumes: set[str], count: int, seed: int) -> list[SliceKey]:
    """So many annotated slices of different volumes, the labels in turn, the rarest first."""
    rng = np.random.default_rng(seed)
    by_label: dict[str, list[SliceKey]] = {label: [] for label in LABELS}
    for key in sorted(boxes):
        if key[0] in volumes:
            for label in {box.label for box in boxes[key]}:
                by_label[label].append(key)
    turn = [label for label in LABELS if by_label[label]]
    turn.sort(key=lambda label: len(by_label[label]))
    chosen: list[SliceKey] = []
    while turn and len(chosen) < count:
        label = turn.pop(0)
        used = {volume for volume, _ in chosen}
        left = [key for key in by_label[label] if key[0] not in used]
        if left:
            chosen.append(left[rng.integers(len(left))])
            turn.append(label)
    return chosen


def draw(folder: Path, slices: list[SliceKey], boxes: Boxes, facts: DatasetFacts) -> Figure:
    """Magnitude, phase and RSS of every slice, boxes on all three."""
    from matplotlib.figure import Figure  # not pyplot: no window and no global state

    figure = Figure(figsize=(9.6, 1.0 + 3.1 * len(slices)), dpi=110, layout="constrained")
    panels = figure.subplots(len(slices), 3, squeeze=False)
    stretches = facts.settings["geometry"] == "official_code"
    for row, key in zip(panels, slices, strict=True):
        _draw_slice(row, folder, key, boxes[key], stretches)
    _legend(figure)
    figure.suptitle(textwrap.fill(facts.description, 120), fontsize=9)
    return figure


def _draw_slice(
    row: np.ndarray, folder: Path, key: SliceKey, boxes: list[Box], stretches: bool
) -> None:
    """One slice in three axes; `stretches`: whether the geometry does, as the published code's."""
    from fastMRI.preparation.cache import AGAIN  # these need h5py, and --help does not
    from fastMRI.preparation.hdf5 import array_in, open_hdf5

    volume, index = key
    path = folder / "volumes" / f"{volume}.h5"
    with open_hdf5(path, AGAIN) as file:
        image, rss = (array_in(path, file, name, AGAIN)[index] for name in ("image", "rss"))
        width, acquisition = int(file.attrs["width"]), file.attrs["acquisition"]
    magnitude = np.abs(image)
    row[0].imshow(magnitude, cmap="gray", vmin=0, vmax=np.percentile(magnitude, 99.8))
    row[1].imshow(np.angle(image), cmap="twilight", vmin=-np.pi, vmax=np.pi)
    row[2].imshow(rss, cmap="gray", vmin=0, vmax=np.percentile(rss, 99.8))
    names = ", ".join(dict.fromkeys(box.label for box in boxes))
    titles = (
        f"{volume}, slice {index}: magnitude",
        f"phase ({names})",
        f"RSS ({acquisition}, {width} columns)",
    )
    of_image = PADDED_WIDTH / width if stretches else 1.0  # RSS never is stretched
    for axes, title, stretch in zip(row, titles, (of_image, of_image, 1.0), strict=True):
        axes.set_title(title, fontsize=8)
        axes.set_axis_off()
        _draw_boxes(axes, boxes, len(image) / SIZE, stretch)


def _draw_boxes(axes: Axes, boxes: list[Box], scale: float, stretch: float) -> None:
    """`scale`: stored pixels per published one; `stretch`: of the columns about the image's
    centre."""
    from matplotlib.patches import Rectangle

    for box in boxes:
        left = (box.left - SIZE / 2) * stretch + SIZE / 2
        corner = (left * scale - 0.5, box.top * scale - 0.5)
        size = (box.width * stretch * scale, box.height * scale)
        axes.add_patch(Rectangle(corner, *size, fill=False, lw=1.2, edgecolor=COLOURS[box.label]))


def _legend(figure: Figure) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor="none", edgecolor=colour, label=label) for label, colour in COLOURS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=9, frameon=False)


def _parser() -> CommandParser:
    parser = CommandParser("python -m fastMRI.pictures", __doc__)
    add = parser.add_argument
    add("folder", type=Path, help="prepared folder, such as data/fastmri")
    about = "annotations: knee.csv of fastMRI+"
    add("--annotations", type=Path, required=True, metavar="CSV", help=about)
    add(
        "--slices",
        type=int,
        default=SHOWN,
        metavar="N",
        help=f"number of slices (default: {SHOWN})",
    )
    add("--seed", type=int, default=0, help="seed that chooses the slices (default: 0)")
    add("--out", type=Path, metavar="PNG", help="file to write (default: slices.png in the folder)")
    return parser


if __name__ == "__main__":
    run_command(main)
