"""Predictions of all rows -> information in nats, planned contrasts, and the answer in one line.

* information, nats per example: what single modalities know, NLL(prior) - NLL(best unimodal);
  intra, NLL(prior) - NLL(best product of unimodal experts); inter, NLL(that product) - NLL(all
  experts);
* five questions, each a planned contrast of two rows (`i2m2.stats.contrasts`).

Where one of several rows is taken (the best modality, joint or separate training), it is the one
with the smaller NLL on held-out parts of the training examples, so that no test example chooses.
The best reference is the best on the test examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from i2m2.errors import SettingsError
from i2m2.metrics import METRICS, SHARE, Metric
from i2m2.stats.contrasts import MARGIN, Contrast, Decision, ScoredRows, decide, usual_margin
from i2m2.stats.intervals import interval

REGRESSION_METRICS = ("nll", "r2")
HALF = "half:"


class Information(msgspec.Struct, frozen=True, kw_only=True):
    """Nats per example, their share of H(y) (None for a regression), and a 95 % interval. `high`
    also holds what more examples would add: as much as the last doubling of the training examples
    added (`growth`), since the error of a fitted model falls with their number. `answer`: `yes`
    where the interval lies above 0, `no` where it ends below the margin, without `growth`."""

    name: str
    nats: float
    low: float
    high: float
    share: float | None
    growth: float
    answer: str


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A row's out-of-fold scores: mean over seeds, 95 % interval, NLL in nats."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    nll: float
    reference: bool = False


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is said of a data set."""

    about: str
    metric: str
    margin: float
    prior_nll: float
    information: list[Information]
    decisions: list[Decision]
    rows: list[Row]
    answer: str
    cautions: list[str]
    experts_trained: str
    further: list[str] = []


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """Out-of-fold predictions: {row: [S, n, L, K]}, y [n, L], group [n], {row: validation NLL}."""

    outputs: Mapping[str, np.ndarray]
    y: np.ndarray
    group: np.ndarray
    validation: Mapping[str, float]
    modalities: Sequence[str]
    classify: bool


QUESTIONS = {
    "more than one modality?": "intra - best unimodal",
    "interaction?": "better of i2m2 and inter - intra",
    "unimodal experts beside the fused one?": "i2m2 - inter",
    "joint training?": "i2m2, joint - separate",
    "is a reference better?": "best reference - best row",
}
MORE, INTERACTION, BESIDE, JOINTLY, REFERENCE = QUESTIONS


def nll_of(outputs: np.ndarray, y: np.ndarray, classify: bool) -> np.ndarray:
    """-log p(y | x), mean over the labels: [..., n, L, K] and [n, L] -> [..., n]."""
    if classify:
        places = np.broadcast_to(y[..., None], (*outputs.shape[:-1], 1))
        return -np.take_along_axis(outputs, places, axis=-1)[..., 0].mean(axis=-1)
    mean, log_variance = outputs[..., 0], outputs[..., 1]
    squared = (y - mean) ** 2 * np.exp(-log_variance)
    return 0.5 * (np.log(2 * np.pi) + log_variance + squared).mean(axis=-1)


def score_rows(predicted: Predicted, metric: str) -> tuple[ScoredRows, Metric]:
    """All rows by a metric. SettingsError for one that these predictions do not have."""
    rows = {name: one for name, one in predicted.outputs.items() if not name.startswith(HALF)}
    if metric == "nll":
        scores = {name: nll_of(one, predicted.y, predicted.classify) for name, one in rows.items()}
        return ScoredRows.of_scores(scores, predicted.group), METRICS["nll"]
    if not predicted.classify:
        if metric != "r2":
            choices = ", ".join(REGRESSION_METRICS)
            raise SettingsError(f"metric {metric!r} is none of a regression; choose {choices}")
        spread = ((predicted.y - predicted.y.mean(axis=0)) ** 2).mean(axis=0)
        scores = {
            name: (1 - (predicted.y - one[..., 0]) ** 2 / spread).mean(axis=-1)
            for name, one in rows.items()
        }
        return ScoredRows.of_scores(scores, predicted.group), SHARE
    if metric not in METRICS or not METRICS[metric].ranks:
        choices = ", ".join(name for name, one in METRICS.items() if one.ranks)
        raise SettingsError(f"metric {metric!r} is unknown; choose one of {choices}")
    several = predicted.y.shape[1] > 1
    every = {
        name: [_as_predictions(predicted, of_seed, several) for of_seed in one]
        for name, one in rows.items()
    }
    return ScoredRows.of_predictions(every, metric), METRICS[metric]


def _as_predictions(predicted: Predicted, outputs: np.ndarray, several: bool) -> dict:
    y, log_prob = predicted.y, outputs
    if not several:
        y, log_prob = y[:, 0], log_prob[:, 0]
    return {"id": np.arange(len(y)), "group": predicted.group, "y": y, "log_prob": log_prob}


def chosen_rows(predicted: Predicted) -> dict[str, str]:
    """{unimodal, intra, i2m2, fused, best: the row that stands for it}, by validation NLL."""
    known = predicted.validation

    def best(names: Sequence[str]) -> str:
        return min((name for name in names if name in known), key=known.get)

    found = {
        "unimodal": best([f"unimodal_{name}" for name in predicted.modalities]),
        "intra": best(["intra-separate", "intra-joint"]),
        "i2m2": best(["i2m2-separate", "i2m2-joint"]),
    }
    found["fused"] = best([found["i2m2"], "inter"])
    found["best"] = best([name for name in known if not name.startswith(HALF)])
    return found


def contrasts_of(rows: ScoredRows, chosen: Mapping[str, str], metric: Metric) -> list[Contrast]:
    sign = -1 if metric.lower_is_better else 1
    references = [name for name in rows.values if name.startswith(("lr-", "hgb-"))]
    reference = max(references, key=lambda name: sign * rows.values[name].mean())
    pairs = {
        MORE: (chosen["intra"], chosen["unimodal"]),
        INTERACTION: (chosen["fused"], chosen["intra"]),
        BESIDE: (chosen["i2m2"], "inter"),
        JOINTLY: ("i2m2-joint", "i2m2-separate"),
        REFERENCE: (reference, chosen["best"]),
    }
    return [
        Contrast(name=name, first=first, second=second)
        for name, (first, second) in pairs.items()
        if first in rows.values
    ]


def answer_of(predicted: Predicted, about: str, metric: str, margin: float | None) -> Answer:
    """The answer for out-of-fold predictions; `margin` None: a point of the metric, or 1 % of H(y)
    where it is in nats. SettingsError as `score_rows` and `decide`."""
    chosen = chosen_rows(predicted)
    scored, kind = score_rows(predicted, metric)
    nats = scored if metric == "nll" else score_rows(predicted, "nll")[0]
    prior = float(nats.values["prior"].mean())
    if margin is None:
        margin = usual_margin(metric, predicted.y) if predicted.classify else MARGIN
    decisions = decide(contrasts_of(scored, chosen, kind), scored, margin, kind)
    least = usual_margin("nll", predicted.y) if predicted.classify else MARGIN
    information = _information(predicted, nats, chosen, prior, least)
    rows = _rows(scored, nats, kind)
    return Answer(
        about=about,
        metric=metric,
        margin=margin,
        prior_nll=prior,
        information=information,
        decisions=decisions,
        rows=rows,
        answer=in_one_line({one.contrast.name: one for one in decisions}, chosen),
        cautions=cautions_of(decisions, kind),
        experts_trained="joint" if chosen["i2m2"].endswith("joint") else "separate",
    )


def _information(
    predicted: Predicted,
    nats: ScoredRows,
    chosen: Mapping[str, str],
    prior: float,
    margin: float,
) -> list[Information]:
    pairs = {
        f"single modalities ({chosen['unimodal'].removeprefix('unimodal_')})": (
            "prior",
            "unimodal",
        ),
        "intra": ("prior", "intra"),
        "inter": ("intra", "i2m2"),
    }
    small = {
        name.removeprefix(HALF): float(nll_of(one, predicted.y, predicted.classify).mean())
        for name, one in predicted.outputs.items()
        if name.startswith(HALF)
    }
    halves = {key: small.get(_separate(row)) for key, row in chosen.items()} | {"prior": prior}
    found = []
    for name, (more, less) in pairs.items():
        rows = (chosen.get(more, more), chosen.get(less, less))
        values, resampled = nats.difference(Contrast(name=name, first=rows[0], second=rows[1]))
        summary = interval(values, resampled, nats.groups)
        growth = 0.0
        if None not in (halves[more], halves[less]):
            first_seed = nats.values[_separate(rows[0])][0] - nats.values[_separate(rows[1])][0]
            growth = max(0.0, float(first_seed - (halves[more] - halves[less])))
        mean = float(summary.mean)
        low, high = (mean if end is None else float(end) for end in (summary.low, summary.high))
        share = mean / prior if predicted.classify else None
        answer = "no" if high < margin else "yes" if low > 0 else "cannot be told"
        bounds = {"low": low, "high": high + growth, "growth": growth}
        found.append(Information(name=name, nats=mean, **bounds, share=share, answer=answer))
    return found


def _separate(row: str) -> str:
    return row.replace("-joint", "-separate")


def _rows(scored: ScoredRows, nats: ScoredRows, metric: Metric) -> list[Row]:
    rows = []
    for name, values in scored.values.items():
        found = interval(
            values, scored.resampled[name], scored.groups, metric.bounds, metric.biased
        )
        rows.append(
            Row(
                name=name,
                value=found.mean,
                low=found.low,
                high=found.high,
                nll=float(nats.values[name].mean()),
                reference=name.startswith(("lr-", "hgb-")),
            )
        )
    return rows


def in_one_line(decisions: Mapping[str, Decision], chosen: Mapping[str, str]) -> str:
    """The project's question, answered."""
    more, interaction, beside = (decisions[name] for name in (MORE, INTERACTION, BESIDE))
    best = chosen["unimodal"].removeprefix("unimodal_")
    limit = interaction.text.removeprefix("no ").strip("()")
    if interaction.answer == "yes":
        if beside.answer == "yes":
            return "both: an interaction of the modalities, and unimodal experts beside it"
        fused = "inter-modality modelling: the modalities interact"
        if beside.answer == "no":
            return f"{fused}; unimodal experts beside the fused one add {_limit(beside)}"
        return f"{fused}; whether unimodal experts add to the fused one cannot be told"
    if interaction.answer == "no":
        if more.answer == "yes":
            return f"intra-modality modelling: several modalities, whose interaction adds {limit}"
        if more.answer == "no":
            return f"neither: {best} alone; the other modalities add {_limit(more)}"
        return (
            f"no inter-modality modelling (interaction adds {limit}); "
            f"whether more than {best} is needed cannot be told"
        )
    detectable = interaction.text.removeprefix("cannot be told").strip(" ()")
    if more.answer == "yes":
        return f"more than one modality; whether they interact cannot be told ({detectable})"
    if more.answer == "no":
        return (
            f"{best} alone as far as no interaction is needed, which cannot be told ({detectable})"
        )
    return f"cannot be told from these examples ({detectable})"


def _limit(decision: Decision) -> str:
    return decision.text.removeprefix("no ").strip("()")


def cautions_of(decisions: Sequence[Decision], metric: Metric) -> list[str]:
    found = {one.contrast.name: one for one in decisions}[REFERENCE]
    if found.answer != "yes":
        return []
    scale, unit = (100, " points") if metric.percent else (1, "")
    amount = f"{found.difference * scale:.{1 if metric.percent else 4}f}{unit}"
    return [
        f"{found.contrast.first} is better than the best row ({found.contrast.second}) by "
        f"{amount}: the experts' encoders limit this answer; give better ones (experts=...)"
    ]
