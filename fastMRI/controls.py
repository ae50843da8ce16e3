"""Multiply networks that were trained separately (Fig. 3), from saved predictions.

python -m fastMRI.controls results/fastmri

The products have as many parameters as I2M2, without its joint training: three magnitude networks,
three phase networks (of the seeds k, k + 1 and k + 2, in a circle), magnitude and phase, and
magnitude, phase and inter (of seed k). Nothing is trained; the products are kept beside the runs,
and `python -m i2m2.results` puts them into Fig. 3.
"""

from __future__ import annotations

from pathlib import Path

from i2m2.errors import CommandParser, run_command
from i2m2.report.robustness import faults_of, finished_runs

MAGNITUDE, PHASE, INTER = "unimodal_magnitude", "unimodal_phase", "inter"
PRODUCTS = {  # name of the product -> the runs it is made of
    "product-3x_magnitude": (MAGNITUDE,) * 3,
    "product-3x_phase": (PHASE,) * 3,
    "product-magnitude-phase": (MAGNITUDE, PHASE),
    "product-magnitude-phase-inter": (MAGNITUDE, PHASE, INTER),
}

Seeds = dict[str, list[int]]  # run -> seeds of it that are finished


def main(argv: list[str] | None = None) -> None:
    """Make every product whose parts are finished; say which parts the others lack. DataError, once
    all others are made, for parts that cannot be read."""
    parser = CommandParser("python -m fastMRI.controls", __doc__)
    about = "folder that holds <run>/seed<k>, such as results/fastmri"
    parser.add_argument("results", type=Path, help=about)
    folder = parser.parse_args(argv).results
    finished = {(run.name, run.seed): run.dir for run in finished_runs(folder)}
    seeds: Seeds = {}
    for run, seed in finished:
        seeds.setdefault(run, []).append(seed)
    products = {
        folder / name / f"seed{seed}": [finished[member] for member in members]
        for name, parts in PRODUCTS.items()
        for seed, members in members_of(parts, seeds).items()
    }
    for name, parts in PRODUCTS.items():
        if lacking := lack_of(parts, seeds):
            print(f"{name}: not made, {lacking}")
    from fastMRI.scores import scores  # here: they need torch, and --help does not
    from i2m2.combine import save_products

    save_products(products, scores, "auroc", faults_of(folder))


def members_of(parts: tuple[str, ...], seeds: Seeds) -> dict[int, list[tuple[str, int]]]:
    """{seed of the product: its (run, seed)s}.

    Three networks of one kind come from three seeds, different kinds from one.
    """
    if not _of_one_kind(parts):
        common = set.intersection(*(set(seeds.get(part, [])) for part in parts))
        return {seed: [(part, seed) for part in parts] for seed in sorted(common)}
    circle, size = sorted(seeds.get(parts[0], [])), len(parts)
    if len(circle) < size:
        return {}
    starts = circle if len(circle) > size else circle[:1]  # `size` seeds make but one product
    twice = circle + circle
    return {
        seed: list(zip(parts, twice[place : place + size], strict=True))
        for place, seed in enumerate(starts)
    }


def lack_of(parts: tuple[str, ...], seeds: Seeds) -> str:
    """What is missing for the first product of these parts, and the command that makes it; empty if
    nothing is."""
    if members_of(parts, seeds):
        return ""
    finished = {part: sorted(seeds.get(part, [])) for part in dict.fromkeys(parts)}
    listed = "; ".join(
        f"{part}: {', '.join(map(str, numbers)) or 'none'}" for part, numbers in finished.items()
    )
    wanted = " ".join(map(str, range(len(parts)))) if _of_one_kind(parts) else "0"
    command = f'SEEDS="{wanted}" ROWS="{", ".join(finished)}" bash scripts/fastmri.sh'
    return (
        f"because finished seeds are missing ({listed}); make them: {command} "
        "with the settings of the others"
    )


def _of_one_kind(parts: tuple[str, ...]) -> bool:
    return len(set(parts)) < len(parts)


if __name__ == "__main__":
    run_command(main)
