"""Few plans of few slices, and the strengths of each part alone."""

from __future__ import annotations

from pathlib import Path

from fastMRI.synthetic.plan import Plan, Strengths, plan_volumes

VOLUMES, SLICES = 7, (2, 3)  # seven widths
ALONE = {
    "magnitude": Strengths(0.3, 0, 0),
    "phase": Strengths(0, 0.9, 0),
    "interaction": Strengths(0, 0, 1),
}


def files(out: Path) -> list[Path]:
    """The single-coil volumes, by name."""
    return sorted(out.glob("singlecoil_*/*.h5"), key=lambda path: path.name)


def plans(
    count: int,
    strengths: Strengths = Strengths(),  # noqa: B008  (frozen)
    slices: tuple[int, int] = (6, 12),
) -> list[Plan]:
    return plan_volumes(count, 0, strengths, slices)
