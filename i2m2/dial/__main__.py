"""The command `python -m i2m2.dial`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from i2m2.dial import EXACT, KINDS, Dial, save
from i2m2.errors import CommandParser, SettingsError, aligned, run_command

Q_NOTE = "q is the best product of unimodal experts: log q is a sum of functions of (y, x_m)."


def _parser() -> argparse.ArgumentParser:
    keys = aligned([(f"  {key}", meaning) for key, meaning in EXACT.items()], others="left")
    parser = CommandParser(
        prog="python -m i2m2.dial",
        description="Data whose intra- and inter-modality information is known exactly.",
        epilog=f"The JSON of --exact, nats and fractions:\n{keys}\n\n{Q_NOTE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--classes", type=int, required=True, metavar="K", help="how many labels there are")
    alpha = "what each modality knows by itself, one number per modality, 0: nothing"
    add("--alpha", type=float, nargs="+", required=True, metavar="A", help=alpha)
    beta = "what only all modalities together know, 0: nothing"
    add("--beta", type=float, required=True, metavar="B", help=beta)
    add("--prior", type=float, nargs="+", metavar="P", help="p(y) (default: uniform)")
    copy = "probability that the second modality's c is the first one's (default: 0)"
    add("--copy", type=float, default=0.0, metavar="RHO", help=copy)
    pairs = "modalities that know together what beta says, such as x1 x2 (default: all)"
    add("--pairs", nargs="+", metavar="NAME", help=pairs)
    add("--exact", action="store_true", help="print all exact values as JSON")
    out = "write examples here, and the settings and exact values beside it as .json"
    add("--out", type=Path, metavar="FILE.npz", help=out)
    add("--n", type=int, help="how many examples --out gets")
    add("--seed", type=int, default=0, help="of the examples (default: 0)")
    render = f"one kind of block, or one per modality: {', '.join(KINDS)} (default: onehot)"
    add("--render", nargs="+", choices=KINDS, default=["onehot"], metavar="KIND", help=render)
    missing = "rate at which each modality is missing, as NaN or an empty text (default: 0)"
    add("--missing", type=float, default=0.0, metavar="RATE", help=missing)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Print exact values, write data, or both."""
    args = _parser().parse_args(argv)
    if not args.exact and args.out is None:
        raise SettingsError("nothing to do; give --exact, or --out FILE.npz and --n")
    if (args.out is None) != (args.n is None):
        raise SettingsError("--out and --n belong together")
    dial = Dial(args.classes, args.alpha, args.beta, args.prior, args.copy, args.pairs)
    if args.out is not None:
        try:
            save(args.out, dial, args.n, args.seed, args.render, args.missing)
        except MemoryError as error:
            more = f"--n {args.n}: so many examples take more memory than there is; give fewer"
            raise SettingsError(more) from error
    if args.exact:
        print(json.dumps(dial.exact(), indent=2))
    else:
        print(f"{args.out}: {args.n:,} examples; exact values: {args.out.with_suffix('.json')}")


if __name__ == "__main__":
    run_command(main)
