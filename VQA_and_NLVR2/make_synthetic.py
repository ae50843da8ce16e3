"""Draw coloured shapes with questions, or with sentences about pairs of them, in the files of
VQA-VS and NLVR2: for tests, first runs.

python -m VQA_and_NLVR2.make_synthetic --dataset vqa_vs --out data/vqa_vs-synthetic --scenes 3750
python -m VQA_and_NLVR2.make_synthetic --dataset nlvr2 --out data/nlvr2-synthetic --sentences 1000

The same settings give the same bytes. With the data comes the folder `tokenizer`, the same for
both, made for the tiny FIBER of configs/fiber_tiny.json. What can be learned from text, image and
both: `synthetic.questions`, `synthetic.nlvr2_files`.
"""

from __future__ import annotations

from pathlib import Path

from i2m2.errors import CommandParser, SettingsError, run_command
from VQA_and_NLVR2.synthetic.generate import UNITS, USUAL, describe, make_synthetic


def main(argv: list[str] | None = None) -> None:
    """Generate the data set that the command line asks for."""
    args = _parser().parse_args(argv)
    unit = UNITS[args.dataset]
    for dataset, other in UNITS.items():
        if dataset != args.dataset and getattr(args, other) is not None:
            raise SettingsError(
                f"--{other} belongs to --dataset {dataset}; {args.dataset} takes --{unit}"
            )
    number = getattr(args, unit)
    sizes = make_synthetic(args.out, args.dataset, number, args.seed)
    print(describe(args.dataset, USUAL[args.dataset] if number is None else number, args.seed))
    print(", ".join(f"{name} {size:,}" for name, size in sizes.items()))
    print(f"written: {args.out}")


def _parser() -> CommandParser:
    parser = CommandParser("python -m VQA_and_NLVR2.make_synthetic", __doc__, allow_abbrev=False)
    about = "data set in whose files to write"
    parser.add_argument("--dataset", choices=tuple(UNITS), required=True, help=about)
    about = "new folder to write"
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=about)
    about = f"number of scenes of vqa_vs (default: {USUAL['vqa_vs']})"
    parser.add_argument("--scenes", type=int, metavar="N", help=about)
    about = f"approximate number of training sentences of nlvr2 (default: {USUAL['nlvr2']})"
    parser.add_argument("--sentences", type=int, metavar="N", help=about)
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of all that is drawn (default: 0)"
    )
    return parser


if __name__ == "__main__":
    run_command(main)
