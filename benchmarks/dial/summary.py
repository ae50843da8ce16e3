"""How often the draws of a dial were right, in lines."""

from __future__ import annotations

import numpy as np

LEAST = 0.03  # exact nats from which `yes` is expected
CALIBRATED = 0.03  # the largest calibration error that is asked for


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
