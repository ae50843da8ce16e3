"""Compare this code with stored numbers of the published one, array by array.

python -m VQA_and_NLVR2.check_parity DIR                # backbone and heads
python -m VQA_and_NLVR2.check_parity DIR --data DATA    # labels and scores

Backbone and heads: DIR has config.json, weights.npz, io.npz, position_adapt.npz. Labels and scores:
DIR has vqa_labels.json and its like, and DATA what they were made of.

Exit code 1 if an array deviates more than its tolerance, or is one that this code should give and
does not.
"""

from __future__ import annotations

import re
from pathlib import Path

from i2m2.errors import CommandParser, SettingsError, run_command

FIBER_FILES = ("config.json", "weights.npz", "io.npz")
METRICS_FILES = (
    "answer_normalisation.json",
    "nlvr2_scores.json",
    "vqa_labels.json",
    "vqa_vs_scores.json",
)
TOLERANCE = 5e-5
# Of outputs that this code gives.
GROUPS = re.compile(r"(fused\d+|image_only\d+|text_only|vqa|nlvr2|buffer)/")


def main(argv: list[str] | None = None) -> None:
    """Print the largest deviation of every array; FloatingPointError (exit code 1) names those
    above their tolerance."""
    args = _parser().parse_args(argv)
    compared, uncompared = deviations(args.folder, args.tolerance, args.data)
    width = max((len(name) for name, _, _ in compared), default=0)
    for name, deviation, tolerance in compared:
        verdict = "ok" if deviation <= tolerance else f"ABOVE {tolerance:g}"
        print(f"{name:<{width}}  {deviation:.1e}  {verdict}")
    if uncompared:
        print(f"not compared: {_some(uncompared)}")
    faults = []
    if above := [name for name, deviation, tolerance in compared if not deviation <= tolerance]:
        faults.append(f"{len(above)} of {len(compared)} arrays deviate too much: {_some(above)}")
    if lacking := _lacking(uncompared, {name.partition("/")[0] for name, _, _ in compared}):
        why = "could not be compared because inputs or weights are missing"
        faults.append(f"{len(lacking)} {why}: {_some(lacking)}")
    if faults or not compared:
        raise FloatingPointError(f"{args.folder}: {'; '.join(faults) or 'nothing to compare'}")
    number = len(compared)
    print(f"parity: {number} arrays within their tolerance, {len(uncompared)} not compared")


def _lacking(uncompared: list[str], made: set[str]) -> list[str]:
    """Of arrays that were not compared those of a group that this code gives, but did not make."""
    groups = {name: GROUPS.match(name) for name in uncompared}
    return [name for name, group in groups.items() if group and group[1] not in made]


def _some(names: list[str], shown: int = 8) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def deviations(
    folder: Path, tolerance: float, data: Path | None
) -> tuple[list[tuple[str, float, float]], list[str]]:
    """[(array, largest absolute deviation, tolerance)], and the names of arrays that nothing was
    compared with."""
    if all((folder / name).is_file() for name in FIBER_FILES):
        if data is not None:
            raise SettingsError(
                f"--data {data} has no effect on {folder}, which holds its inputs itself; "
                "leave it out"
            )
        from VQA_and_NLVR2.parity.fiber import check_fiber

        return check_fiber(folder, tolerance)
    if any(folder.glob("*.json")) or any(folder.glob("*.json.gz")):
        from VQA_and_NLVR2.parity.metrics import check_metrics

        return check_metrics(folder, data)
    wanted = f"{', '.join(FIBER_FILES)} (backbone) or files such as {', '.join(METRICS_FILES)}"
    raise SettingsError(f"{folder}: no folder of stored numbers; it needs {wanted}")


def _parser() -> CommandParser:
    parser = CommandParser("python -m VQA_and_NLVR2.check_parity", __doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of stored numbers")
    about = f"largest deviation of an output of the backbone (default: {TOLERANCE:g})"
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help=about)
    about = (
        "what labels and scores were made of: folder of vqa_vs/ and nlvr2/, or of the annotation "
        "files themselves (default: DIR/../../data)"
    )
    parser.add_argument("--data", type=Path, metavar="DATA", help=about)
    return parser


if __name__ == "__main__":
    run_command(main)
