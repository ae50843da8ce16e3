"""`python -m benchmarks.dial`: what `diagnose` says of data whose answer is known exactly.

GENERATED data (`i2m2.dial`): one-hot symbols, two modalities, a cell for every number of classes,
alpha and beta, drawn several times. For each draw the estimated information, its interval and the
answers stand beside the exact values; the last lines count how often they were right. A draw is a
line of --out, so that a broken-off benchmark goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from i2m2 import I2M2Classifier, diagnose
from i2m2.diagnose.answer import INTERACTION, MORE
from i2m2.dial import Dial, DialData, render
from i2m2.metrics import confidence_bin, confidence_of

LEAST = 0.03  # exact nats from which `yes` is expected
CALIBRATED = 0.03  # the largest calibration error that is asked for


def draw(classes: int, alpha: float, beta: float, rows: int, seed: int, jobs: int) -> dict:
    """One draw of a cell -> exact and estimated values."""
    dial = Dial(classes, (alpha, alpha), beta)
    data = dial.sample(rows, seed)
    began = time.process_time()
    found = diagnose(render(data.symbols, "onehot", classes), data.y, seeds=1, jobs=jobs).answer
    exact = dial.exact()
    single, intra, inter = found.information
    decisions = {one.contrast.name: one.answer for one in found.decisions}
    values = {
        "single": (max(exact["modality"].values()), single),
        "intra": (exact["intra"], intra),
        "inter": (exact["inter"], inter),
    }
    record = {"classes": classes, "alpha": alpha, "beta": beta, "rows": rows, "seed": seed}
    for name, (true, one) in values.items():
        record[name] = {"exact": true, "nats": one.nats, "low": one.low, "high": one.high}
        record[name] |= {"answer": one.answer}
    record |= {"interaction": decisions[INTERACTION], "more": decisions[MORE]}
    record |= _model(dial, data) | {"cpu_seconds": time.process_time() - began}
    return record


def _model(dial: Dial, data: DialData) -> dict:
    """Accuracy beside Bayes', nats above the least NLL, and calibration errors for every set of
    present modalities: of a model fitted on the draw, exact over all cells of the dial."""
    classes = dial.classes
    model = I2M2Classifier().fit(render(data.symbols, "onehot", classes), data.y)
    symbols, joint = dial.cells()
    blocks = render(symbols, "onehot", classes)
    found = {}
    for name, absent in {"all": (), "x1": ("x2",), "x2": ("x1",)}.items():
        given = {m: np.full_like(x, np.nan) if m in absent else x for m, x in blocks.items()}
        log_prob = model.predict_log_proba(given)
        right = joint[np.arange(len(joint)), log_prob.argmax(axis=1)]
        found[f"ece_{name}"] = _ece(log_prob, joint.sum(axis=1), right)
        if name == "all":
            found["accuracy"] = float(right.sum())
            found["excess"] = float(-(joint * log_prob).sum() - dial.exact()["bayes_nll"])
    return found | {"bayes": dial.exact()["bayes_accuracy"]}


def _ece(log_prob: np.ndarray, weight: np.ndarray, right: np.ndarray) -> float:
    """Of cells [n] with their probability, and the probability of being in one and right."""
    confidence = confidence_of(log_prob)
    gap = np.bincount(confidence_bin(confidence), weight * confidence - right)
    return float(np.abs(gap).sum())


def is_close(record: dict, name: str) -> bool:
    """Within 15 % or 0.02 nats of the exact value."""
    one = record[name]
    return abs(one["nats"] - one["exact"]) <= max(0.02, 0.15 * one["exact"])


def summary(records: list[dict]) -> list[str]:
    """How often the answers were right."""

    def share(name: str, good: list[bool]) -> str:
        return f"{name}: {sum(good)} of {len(good)}" + (f" ({np.mean(good):.1%})" if good else "")

    none = [r["interaction"] == "yes" for r in records if r["beta"] == 0]
    some = [r["interaction"] == "yes" for r in records if r["inter"]["exact"] >= LEAST]
    no_intra = [r["intra"]["answer"] == "yes" for r in records if r["alpha"] == 0]
    intra = [r["intra"]["answer"] == "yes" for r in records if r["intra"]["exact"] >= LEAST]
    lines = [
        share("interaction `yes` where there is none", none),
        share(f"interaction `yes` where there are {LEAST} nats or more", some),
        share("intra information `yes` where there is none", no_intra),
        share(f"intra information `yes` where there are {LEAST} nats or more", intra),
    ]
    for name in ("single", "intra", "inter"):
        lines.append(
            share(f"{name}: within 15 % or 0.02 nats", [is_close(r, name) for r in records])
        )
        upper = [r[name]["high"] >= r[name]["exact"] for r in records]
        lines.append(share(f"{name}: upper end covers", upper))
    close = [r["accuracy"] >= 0.98 * r["bayes"] for r in records]
    lines.append(share("accuracy within 2 % of Bayes", close))
    errors = [max(r[f"ece_{part}"] for part in ("all", "x1", "x2")) for r in records]
    calibrated = [error <= CALIBRATED for error in errors]
    lines.append(share(f"ECE at most {CALIBRATED}, any modalities present", calibrated))
    lines.append(f"largest ECE: {max(errors):.3f}")
    excess = sorted(r["excess"] for r in records)
    lines.append(f"nats above the least NLL: median {np.median(excess):.4f}, most {excess[-1]:.4f}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--classes", type=int, nargs="+", default=[3, 4])
    parser.add_argument("--alpha", type=float, nargs="+", default=[0, 0.5, 1, 2])
    parser.add_argument("--beta", type=float, nargs="+", default=[0, 0.5, 1, 2])
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, help="a line of JSON per draw; read again")
    args = parser.parse_args()
    records = []
    if args.out and args.out.exists():
        records = [json.loads(line) for line in args.out.read_text().splitlines()]
    keys = ("classes", "alpha", "beta", "rows", "seed")
    done = {tuple(record[key] for key in keys) for record in records}
    for seed in range(args.draws):
        for classes in args.classes:
            for alpha in args.alpha:
                for beta in args.beta:
                    if (classes, alpha, beta, args.rows, seed) in done:
                        continue
                    records.append(draw(classes, alpha, beta, args.rows, seed, args.jobs))
                    _show(records[-1])
                    if args.out:
                        with args.out.open("a") as file:
                            file.write(json.dumps(records[-1]) + "\n")
    print("\n".join(["", "GENERATED data, one-hot symbols, two modalities", *summary(records)]))


def _show(record: dict) -> None:
    parts = []
    for name in ("single", "intra", "inter"):
        one = record[name]
        parts.append(
            f"{name} {one['nats']:.3f} [{one['low']:.3f}, {one['high']:.3f}] of {one['exact']:.3f}"
        )
    cell = f"K {record['classes']} alpha {record['alpha']:g} beta {record['beta']:g}"
    accuracy = f"accuracy {record['accuracy']:.3f} of {record['bayes']:.3f}"
    answers = f"interaction {record['interaction']}, {accuracy}"
    print(f"{cell} draw {record['seed']}: {'; '.join(parts)}; {answers}", flush=True)


if __name__ == "__main__":
    main()
