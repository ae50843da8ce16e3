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
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np

from i2m2 import I2M2Classifier, diagnose
from i2m2.diagnose.answer import INTERACTION, MORE
from i2m2.dial import Dial, DialData, render
from i2m2.metrics import confidence_bin, confidence_of

LEAST = 0.03  # exact nats from which `yes` is expected
CALIBRATED = 0.03  # the largest calibration error that is asked for


def draw(
    classes: int, alpha: float, beta: float, rows: int, seed: int, parts: Sequence[str]
) -> dict:
    """One draw of a cell -> exact and estimated values of these parts."""
    dial = Dial(classes, (alpha, alpha), beta)
    data = dial.sample(rows, seed)
    began = time.process_time()
    record = {"classes": classes, "alpha": alpha, "beta": beta, "rows": rows, "seed": seed}
    for part in parts:
        record[part] = PARTS[part](dial, data)
    return record | {"cpu_seconds": time.process_time() - began}


def _answers(dial: Dial, data: DialData) -> dict:
    """What `diagnose` estimates beside the exact values, and what it answers."""
    blocks = render(data.symbols, "onehot", dial.classes)
    answer = diagnose(blocks, data.y, seeds=1, jobs=1).answer
    exact = dial.exact()
    true = {"single": max(exact["modality"].values()), "intra": exact["intra"]}
    true["inter"] = exact["inter"]
    decisions = {one.contrast.name: one.answer for one in answer.decisions}
    found = {"interaction": decisions[INTERACTION], "more": decisions[MORE]}
    for (name, value), one in zip(true.items(), answer.information, strict=True):
        found[name] = {"exact": value, "nats": one.nats, "low": one.low, "high": one.high}
        found[name] |= {"answer": one.answer}
    return found


def _model(dial: Dial, data: DialData) -> dict:
    """Accuracy beside Bayes', nats above the least NLL, and calibration errors for every set of
    present modalities: of a model fitted on the draw, exact over all cells of the dial."""
    classes = dial.classes
    model = I2M2Classifier().fit(render(data.symbols, "onehot", classes), data.y)
    symbols, joint = dial.cells()
    blocks = render(symbols, "onehot", classes)
    found = {"bayes": dial.exact()["bayes_accuracy"]}
    for name, absent in {"x1": ("x2",), "x2": ("x1",), "all": ()}.items():
        given = {m: np.full_like(x, np.nan) if m in absent else x for m, x in blocks.items()}
        scores = exact_scores(model.predict_log_proba(given), joint)
        found[f"ece_{name}"] = scores["ece"]
    excess = scores["nll"] - dial.exact()["bayes_nll"]
    return found | {"accuracy": scores["accuracy"], "excess": excess}


def exact_scores(log_prob: np.ndarray, joint: np.ndarray) -> dict[str, float]:
    """Expected accuracy, NLL and ECE of log p(y | x) [n, K] in cells with p(x, y) [n, K]."""
    confidence = confidence_of(log_prob)
    right = joint[np.arange(len(joint)), log_prob.argmax(axis=1)]
    gap = np.bincount(confidence_bin(confidence), joint.sum(axis=1) * confidence - right)
    nll = -float((joint * log_prob).sum())
    return {"accuracy": float(right.sum()), "nll": nll, "ece": float(np.abs(gap).sum())}


PARTS = {"answers": _answers, "model": _model}


def is_close(record: dict, name: str) -> bool:
    """Within 15 % or 0.02 nats of the exact value."""
    one = record[name]
    return abs(one["nats"] - one["exact"]) <= max(0.02, 0.15 * one["exact"])


def share(name: str, good: list[bool]) -> str:
    return f"{name}: {sum(good)} of {len(good)}" + (f" ({np.mean(good):.1%})" if good else "")


def of_answers(records: list[dict]) -> list[str]:
    """How often the answers were right."""
    none = [r["answers"]["interaction"] == "yes" for r in records if r["beta"] == 0]
    no_intra = [r["answers"]["intra"]["answer"] == "yes" for r in records if r["alpha"] == 0]
    found = [r["answers"] for r in records]
    some = [one["interaction"] == "yes" for one in found if one["inter"]["exact"] >= LEAST]
    intra = [one["intra"]["answer"] == "yes" for one in found if one["intra"]["exact"] >= LEAST]
    lines = [
        share("interaction `yes` where there is none", none),
        share(f"interaction `yes` where there are {LEAST} nats or more", some),
        share("intra information `yes` where there is none", no_intra),
        share(f"intra information `yes` where there are {LEAST} nats or more", intra),
    ]
    for name in ("single", "intra", "inter"):
        close = [is_close(one, name) for one in found]
        upper = [one[name]["high"] >= one[name]["exact"] for one in found]
        lines.append(share(f"{name}: within 15 % or 0.02 nats", close))
        lines.append(share(f"{name}: upper end covers", upper))
    return lines


def of_models(records: list[dict]) -> list[str]:
    """How near the models came to the best."""
    found = [r["model"] for r in records]
    errors = [max(one[f"ece_{part}"] for part in ("all", "x1", "x2")) for one in found]
    excess = [one["excess"] for one in found]
    return [
        share("accuracy within 2 % of Bayes", [is_near_bayes(one) for one in found]),
        share(f"ECE at most {CALIBRATED}, any modalities", [one <= CALIBRATED for one in errors]),
        f"largest ECE: {max(errors):.3f}",
        f"nats above the least NLL: median {np.median(excess):.4f}, most {max(excess):.4f}",
    ]


def is_near_bayes(model: dict) -> bool:
    return model["accuracy"] >= 0.98 * model["bayes"]


SUMMARIES = {"answers": of_answers, "model": of_models}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
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
