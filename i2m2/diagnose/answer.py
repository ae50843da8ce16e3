"""Predictions of all rows -> information in nats, planned contrasts, and the answer in one line.

* information, nats per example: what single modalities know, NLL(prior) - NLL(best unimodal);
  intra, NLL(prior) - NLL(best product of unimodal experts); inter, NLL(that product) - NLL(all
  experts);
* five questions, each a planned contrast of two rows (`i2m2.stats.contrasts`).

Which of several rows stands for its kind is chosen without the examples that it predicts
(`i2m2.diagnose.predicted`). The best reference is the best on the very examples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import msgspec
import numpy as np
from msgspec.structs import asdict, replace

from i2m2.diagnose.predicted import BEST, FUSED, HALF, PRIOR, Choice, Predicted, is_reference
from i2m2.diagnose.words import (
    BESIDE,
    INTERACTION,
    JOINTLY,
    MORE,
    REFERENCE,
    cautions_of,
    in_one_line,
)
from i2m2.errors import SettingsError
from i2m2.metrics import METRICS, Metric
from i2m2.stats.contrasts import MARGIN, Contrast, Decision, ScoredRows, decide, usual_margin
from i2m2.stats.intervals import interval

DENSITY = dataclasses.replace(METRICS["nll"], bounds=(-np.inf, np.inf))  # may be above 1
REGRESSION_METRICS = {"nll": DENSITY, "r2": Metric(bounds=(-np.inf, 1.0))}
SHRINKS = "cannot be told (shrinks with more examples)"


class Information(msgspec.Struct, frozen=True, kw_only=True):
    """Nats per example, their share of H(y) (None for a regression), and a 95 % interval (None
    where there is none, of one group say: nothing can be told then). `high` also holds what more
    examples would add: as much as the last doubling of the training examples added (`growth`),
    since the error of a fitted model falls with their number. `answer`: `yes` where the interval
    lies above 0, `no` where it ends below the margin, without `growth`. The upper end of `inter`,
    and of symbols its estimate, also hold what `saturated` finds."""

    name: str
    nats: float
    low: float | None
    high: float | None
    share: float | None
    growth: float
    answer: str


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """Nats per example that products of columns know beside the columns, and the upper end of the
    95 % interval. `symbols`: the blocks are symbols, so that this is the interaction; else products
    may also stand for what a modality knows by itself. Found by `saturated`."""

    nats: float
    high: float
    symbols: bool


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A row's out-of-fold scores: mean over seeds, 95 % interval, NLL in nats."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    nll: float
    reference: bool = False


class Conclusion(msgspec.Struct, frozen=True, kw_only=True):
    """What a metric says of a data set: the questions decided, and the answer in one line.
    `predicts`: whether the best row is better than the prior, None where nothing says what the
    prior scores; `chosen`: {row that stands for several: {which it is: in how many folds}}."""

    about: str
    metric: str
    margin: float
    decisions: list[Decision]
    predicts: Decision | None
    answer: str
    chosen: dict[str, dict[str, int]]
    remarks: list[str] = []


class Answer(Conclusion, frozen=True, kw_only=True):
    """Everything that is said of a data set."""

    prior_nll: float
    information: list[Information]
    rows: list[Row]
    cautions: list[str]
    further: list[str] = []


def nll_of(outputs: np.ndarray, y: np.ndarray, classify: bool) -> np.ndarray:
    """-log p(y | x), mean over the labels: [..., n, L, K] and [n, L] -> [..., n]."""
    if classify:
        places = np.broadcast_to(y[..., None], (*outputs.shape[:-1], 1))
        return -np.take_along_axis(outputs, places, axis=-1)[..., 0].mean(axis=-1)
    mean, log_variance = outputs[..., 0], outputs[..., 1]
    squared = (y - mean) ** 2 * np.exp(-log_variance)
    return 0.5 * (np.log(2 * np.pi) + log_variance + squared).mean(axis=-1)


def metric_for(metric: str, classify: bool) -> Metric:
    """How a metric is read. SettingsError for one that these predictions do not have."""
    if not classify:
        if metric not in REGRESSION_METRICS:
            choices = ", ".join(REGRESSION_METRICS)
            raise SettingsError(f"metric {metric!r} is none of a regression; choose {choices}")
        return REGRESSION_METRICS[metric]
    fit = [name for name, one in METRICS.items() if one.ranks and not one.biased]
    if metric not in fit:  # the ECE of frequencies, which know nothing, is 0
        choices = ", ".join(fit)
        raise SettingsError(f"metric {metric!r} is unknown; choose one of {choices}")
    return METRICS[metric]


def score_rows(predicted: Predicted, metric: str) -> ScoredRows:
    """All rows by a metric."""
    rows = {name: one for name, one in predicted.outputs.items() if not name.startswith(HALF)}
    y = predicted.y
    if metric == "nll":
        scores = {name: nll_of(one, y, predicted.classify) for name, one in rows.items()}
        return ScoredRows.of_scores(scores, predicted.group, answers=rows)
    if not predicted.classify:
        spread = ((y - y.mean(axis=0)) ** 2).mean(axis=0)
        scores = {
            name: (1 - (y - one[..., 0]) ** 2 / spread).mean(axis=-1) for name, one in rows.items()
        }
        return ScoredRows.of_scores(scores, predicted.group, answers=rows)
    every = {
        name: [_as_predictions(predicted, of_seed) for of_seed in one] for name, one in rows.items()
    }
    return ScoredRows.of_predictions(every, metric)


def _as_predictions(predicted: Predicted, outputs: np.ndarray) -> dict:
    y, log_prob = predicted.y, outputs
    if y.shape[1] == 1:
        y, log_prob = y[:, 0], log_prob[:, 0]
    return {"id": np.arange(len(y)), "group": predicted.group, "y": y, "log_prob": log_prob}


def contrasts_of(rows: ScoredRows, choices: Mapping[str, Choice], metric: Metric) -> list[Contrast]:
    """The questions that these rows can answer."""
    chosen = {kind: choice.row for kind, choice in choices.items()}
    pairs = {
        MORE: (chosen["intra"], chosen["unimodal"]),
        INTERACTION: (chosen[FUSED], chosen["intra"]),
        BESIDE: (chosen["i2m2"], chosen["inter"]),
        JOINTLY: ("i2m2-joint", "i2m2-separate"),
    }
    sign = -1 if metric.lower_is_better else 1
    if references := [name for name in rows.values if is_reference(name)]:
        best = max(references, key=lambda name: sign * rows.values[name].mean())
        pairs[REFERENCE] = (best, chosen[BEST])
    return [
        Contrast(name=name, first=first, second=second)
        for name, (first, second) in pairs.items()
        if {first, second} <= rows.values.keys()
    ]


def answer_of(
    predicted: Predicted,
    choices: Mapping[str, Choice],
    about: str,
    metric: str,
    margin: float | None,
) -> Answer:
    """The answer for predictions and choices as `predicted.choose` gives them; `margin` None: a
    point of the metric, or 1 % of H(y) where it is in nats. SettingsError as `metric_for` and
    `decide`."""
    kind = metric_for(metric, predicted.classify)
    scored = score_rows(predicted, metric)
    nats = scored if metric == "nll" else score_rows(predicted, "nll")
    if margin is None:
        margin = _usual_margin(metric, predicted)
    vanishing = _vanishing(predicted, nats, choices)
    found = conclude(scored, choices, about, metric, margin, kind, vanishing > 0)
    decisions = {one.contrast.name: one for one in found.decisions}
    cautions = cautions_of(decisions, metric)
    if decisions[INTERACTION].text == SHRINKS:
        cautions.append(
            f"the gain of the fused models over the others shrank by {vanishing:.4f} nats as the "
            "examples doubled and may be gone with more of them, so no interaction is claimed"
        )
    return Answer(
        **asdict(found),
        prior_nll=float(nats.values[PRIOR].mean()),
        information=_information(predicted, nats, choices),
        rows=_rows(scored, nats, kind),
        cautions=cautions,
    )


def conclude(
    scored: ScoredRows,
    choices: Mapping[str, Choice],
    about: str,
    metric: str,
    margin: float,
    kind: Metric,
    vanishing: bool = False,
) -> Conclusion:
    """The conclusion from rows scored by a metric of this `kind`, the chosen ones among them, and
    the prior where it has a score. `vanishing`: an interaction that more examples may do away with
    is not claimed. SettingsError as `decide`."""
    planned = decide(contrasts_of(scored, choices, kind), scored, margin, kind)
    if vanishing:
        planned = [
            replace(one, answer="cannot be told", text=SHRINKS)
            if one.contrast.name == INTERACTION and one.answer == "yes"
            else one
            for one in planned
        ]
    anything = Contrast(name="anything?", first=choices[BEST].row, second=PRIOR)
    predicts = decide([anything], scored, margin, kind)[0] if PRIOR in scored.values else None
    decisions = {one.contrast.name: one for one in planned}
    modality = choices["unimodal"].usual.removeprefix("unimodal_")
    return Conclusion(
        about=about,
        metric=metric,
        margin=margin,
        decisions=planned,
        predicts=predicts,
        answer=in_one_line(decisions, predicts, modality, metric),
        chosen={one.row: dict(one.taken) for one in choices.values() if one.row not in one.taken},
    )


def with_bound(answer: Answer, bound: Bound) -> Answer:
    """The answer beside what products of columns know, see `saturated`: the upper end of `inter` is
    no smaller, nor is its estimate where blocks are symbols, and where they know more than the
    margin, experts that find nothing prove nothing."""
    *others, inter = answer.information
    margin = MARGIN * answer.prior_nll
    nats, high = bound.nats, bound.high
    hidden = inter.answer == "no" and nats > margin
    said = "cannot be told" if hidden else inter.answer
    if bound.symbols and nats > inter.nats:
        share = None if inter.share is None else nats / answer.prior_nll
        inter = replace(inter, nats=nats, share=share)
    end = None if inter.high is None else max(inter.high, high)
    inter = replace(inter, high=end, answer=said)
    interaction = {one.contrast.name: one for one in answer.decisions}[INTERACTION]
    cautions = list(answer.cautions)
    if interaction.answer == "no" and nats > margin:
        cautions.append(
            f"columns taken in pairs may hold {nats:.4f} nats of interaction (at most {high:.4f}) "
            "that these experts do not find; more examples, or experts made for it, may"
        )
    return replace(answer, information=[*others, inter], cautions=cautions)


def _usual_margin(metric: str, predicted: Predicted) -> float:
    return usual_margin(metric, predicted.y) if predicted.classify else MARGIN


def _information(
    predicted: Predicted, nats: ScoredRows, choices: Mapping[str, Choice]
) -> list[Information]:
    modality = choices["unimodal"].usual.removeprefix("unimodal_")
    pairs = {
        f"single modalities ({modality})": (PRIOR, "unimodal"),
        "intra": (PRIOR, "intra"),
        "inter": ("intra", "i2m2"),
    }
    margin, prior = _usual_margin("nll", predicted), float(nats.values[PRIOR].mean())
    found = []
    for name, (more, less) in pairs.items():
        rows = [choices[kind].row if kind in choices else kind for kind in (more, less)]
        contrast = Contrast(name=name, first=rows[0], second=rows[1])
        unseen = nats.unseen(contrast, DENSITY)
        summary = interval(*nats.difference(contrast), nats.groups, unseen=unseen)
        change = _change(predicted, nats, choices, more, less)
        mean = float(summary.mean)
        share = mean / prior if predicted.classify else None
        low, high, answer = summary.low, summary.high, "cannot be told"
        if low is not None:
            low += min(change, 0.0)
            answer = "no" if high < margin else "yes" if low > 0 else answer
            # No information is negative; a fitted model may do worse than the prior all the same.
            high = max(high + max(change, 0.0), 0.0)
        bounds = {"low": low, "high": high, "growth": max(change, 0.0)}
        found.append(Information(name=name, nats=mean, **bounds, share=share, answer=answer))
    return found


def _trained_on_half(kind: str, choices: Mapping[str, Choice]) -> str:
    """The row that stands for a kind where the growth with the examples is measured."""
    if kind == PRIOR:
        return PRIOR
    return choices[kind].usual.replace("-joint", "-separate")


def _change(
    predicted: Predicted, nats: ScoredRows, choices: Mapping[str, Choice], more: str, less: str
) -> float:
    """What the last doubling of the training examples added to NLL(more) - NLL(less) of two kinds,
    by the first seed; 0 where no model was trained on half of them."""
    more, less = (_trained_on_half(kind, choices) for kind in (more, less))
    halves = {PRIOR: float(nats.values[PRIOR][0])}
    for name in {more, less} - {PRIOR}:
        if (outputs := predicted.outputs.get(f"{HALF}{name}")) is None:
            return 0.0
        halves[name] = float(nll_of(outputs, predicted.y, predicted.classify).mean())
    whole = float(nats.values[more][0] - nats.values[less][0])
    return whole - (halves[more] - halves[less])


def _vanishing(predicted: Predicted, nats: ScoredRows, choices: Mapping[str, Choice]) -> float:
    """By how much the gain, in nats, of the better of i2m2 and inter over intra shrank with the
    last doubling of the examples, if another such step may leave nothing of it; else 0. What is
    left of a true interaction grows with the examples; a sum of functions that is learnt more
    slowly than one function of all catches up."""
    shrunk = -_change(predicted, nats, choices, "intra", FUSED)
    rows = {"first": choices["intra"].row, "second": choices[FUSED].row}
    values, resampled = nats.difference(Contrast(name=INTERACTION, **rows))
    low = interval(values, resampled, nats.groups).low
    return shrunk if shrunk > 0 and (low is None or low < shrunk) else 0.0


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
                reference=is_reference(name),
            )
        )
    return rows
