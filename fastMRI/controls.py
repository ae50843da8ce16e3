"""python -m fastMRI.controls results/fastmri: Fig. 3's products of networks that were trained separately, from saved predictions

As many parameters as I2M2, without its joint training: three magnitude networks, three phase
networks (of the seeds k, k + 1 and k + 2, in a circle), magnitude and phase, and magnitude, phase
and inter (of seed k). Nothing is trained; the products are kept beside the runs, and `python -m
i2m2.results` puts them into Fig. 3.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fastMRI.scores import scores
from i2m2.combine import save_product
from i2m2.errors import CommandParser, run_command
from i2m2.training.robustness import finished_runs

MAGNITUDE, PHASE, INTER = "unimodal_magnitude", "unimodal_phase", "inter"
PRODUCTS = {
    "product-3x_magnitude": (MAGNITUDE,) * 3,
    "product-3x_phase": (PHASE,) * 3,
    "product-magnitude-phase": (MAGNITUDE, PHASE),
    "product-magnitude-phase-inter": (MAGNITUDE, PHASE, INTER),
}  # name of the product -> the runs it is made of


def main(argv: list[str] | None = None) -> None:
    """Make every product whose parts are finished; say which parts the others lack."""
    parser = CommandParser(
        "python -m fastMRI.controls",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "results", type=Path, help="folder that holds <run>/seed<k>, such as results/fastmri"
    )
    folder = parser.parse_args(argv).results
    seeds: dict[str, list[int]] = {}
    for run in finished_runs(folder):
        seeds.setdefault(run.name, []).append(run.seed)
    for name, parts in PRODUCTS.items():
        for seed, members in members_of(parts, seeds).items():
            directory = folder / name / f"seed{seed}"
            result = save_product(
                directory, [folder / part / f"seed{k}" for part, k in members], scores
            )
            print(f"{directory}: test auroc {result['test']['auroc']:.4f}")
        if lacking := lack_of(parts, seeds):
            print(f"{name}: not made, {lacking}")


def members_of(
    parts: tuple[str, ...], seeds: dict[str, list[int]]
) -> dict[int, list[tuple[str, int]]]:
    """{seed of the product: its (run, seed)s}. Three networks of one kind come from three seeds,
    different kinds from one."""
    if len(set(parts)) < len(parts):
        circle = sorted(seeds.get(parts[0], []))
        if len(circle) < len(parts):
            return {}
        starts = (
            circle if len(circle) > len(parts) else circle[:1]
        )  # as many seeds as parts make but one product
        return {
            seed: [(part, circle[(place + step) % len(circle)]) for step, part in enumerate(parts)]
            for place, seed in enumerate(starts)
        }
    common = set.intersection(*(set(seeds.get(part, [])) for part in parts))
    return {seed: [(part, seed) for part in parts] for seed in sorted(common)}


def lack_of(parts: tuple[str, ...], seeds: dict[str, list[int]]) -> str:
    """What is wanting for the first product of these parts, and the command that makes it; empty if
    nothing is."""
    if members_of(parts, seeds):
        return ""
    there = "; ".join(
        f"{part}: {', '.join(map(str, sorted(seeds.get(part, [])))) or 'none'}"
        for part in dict.fromkeys(parts)
    )
    wanted = " ".join(map(str, range(len(parts)))) if len(set(parts)) < len(parts) else "0"
    command = f'SEEDS="{wanted}" ROWS="{", ".join(dict.fromkeys(parts))}" bash scripts/fastmri.sh'
    return f"for want of finished seeds ({there}); make them: {command} with the settings of the others"


if __name__ == "__main__":
    run_command(main)
