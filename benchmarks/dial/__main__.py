"""`python -m benchmarks.dial`: what `diagnose` says of data whose answer is known exactly.

GENERATED data (`i2m2.dial`): one-hot symbols, two modalities, a cell for every number of classes,
alpha and beta, drawn several times. For each draw the estimated information, its interval and the
answers stand beside the exact values (`--parts answers`), and of a model fitted on the draw
accuracy and calibration, exact over all cells (`--parts model`); the last lines count how often
they were right. A draw is a line of --out, so that a broken-off benchmark goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path

from benchmarks.dial.draw import PARTS, draw
from benchmarks.dial.summary import SUMMARIES


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.dial", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--classes", type=int, nargs="+", default=[3, 4])
    parser.add_argument("--alpha", type=float, nargs="+", default=[0, 0.5, 1, 2])
    parser.add_argument("--beta", type=float, nargs="+", default=[0, 0.5, 1, 2])
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--out", type=Path, help="a line of JSON per draw; read again")
    args = parser.parse_args()
    records = []
    if args.out and args.out.exists():
        records = [json.loads(line) for line in args.out.read_text().splitlines()]
    keys = ("classes", "alpha", "beta", "rows", "seed")
    done = {tuple(record[key] for key in keys) for record in records}
    cells = product(range(args.draws), args.classes, args.alpha, args.beta)
    for seed, classes, alpha, beta in cells:
        if (classes, alpha, beta, args.rows, seed) in done:
            continue
        records.append(draw(classes, alpha, beta, args.rows, seed, args.parts))
        _show(records[-1])
        if args.out:
            with args.out.open("a") as file:
                file.write(json.dumps(records[-1]) + "\n")
    print("\nGENERATED data, one-hot symbols, two modalities")
    for part in args.parts:
        print("\n".join(SUMMARIES[part]([one for one in records if part in one])))


def _show(record: dict) -> None:
    cell = f"K {record['classes']} alpha {record['alpha']:g} beta {record['beta']:g}"
    parts = []
    if found := record.get("answers"):
        for name in ("single", "intra", "inter"):
            one = found[name]
            interval = f"[{one['low']:.3f}, {one['high']:.3f}]"
            parts.append(f"{name} {one['nats']:.3f} {interval} of {one['exact']:.3f}")
        parts.append(f"interaction {found['interaction']}")
    if found := record.get("model"):
        parts.append(f"accuracy {found['accuracy']:.3f} of {found['bayes']:.3f}")
        parts.append(f"ECE {found['ece_all']:.3f} {found['ece_x1']:.3f} {found['ece_x2']:.3f}")
    print(f"{cell} draw {record['seed']}: {'; '.join(parts)}", flush=True)


if __name__ == "__main__":
    main()
