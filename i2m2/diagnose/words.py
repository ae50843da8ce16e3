"""The decisions as one sentence, and what to be careful of."""

from __future__ import annotations

from i2m2.metrics import metric_of
from i2m2.stats.contrasts import NONE_DETECTABLE, Decision

QUESTIONS = {
    "more than one modality?": "intra - best unimodal",
    "interaction?": "better of i2m2 and inter - intra",
    "unimodal experts beside the fused one?": "i2m2 - inter",
    "joint training?": "i2m2, joint - separate",
    "is a reference better?": "best reference - best row",
}
MORE, INTERACTION, BESIDE, JOINTLY, REFERENCE = QUESTIONS


def in_one_line(
    decisions: dict[str, Decision], predicts: Decision | None, modality: str, metric: str
) -> str:
    """The project's question, answered. `decisions`: {question: decision}; `predicts`: whether the
    best row is better than the prior, None where that is not known; `modality`: the one that knows
    most by itself."""
    more, interaction = decisions[MORE], decisions[INTERACTION]
    if predicts and predicts.answer == "no":  # however much worse a single modality does
        return _nothing_known(predicts, metric)
    if interaction.answer == "yes":
        return _interacting(decisions[BESIDE], metric)
    if predicts and "yes" not in (more.answer, predicts.answer):
        return _nothing_known(predicts, metric)
    if interaction.answer == "no":
        return _without_interaction(more, interaction, modality, metric)
    return _perhaps_interacting(more, interaction, modality, metric)


def _interacting(beside: Decision, metric: str) -> str:
    if beside.answer == "yes":
        return "both: the modalities interact, and unimodal experts add to the fused one"
    start = "inter-modality modelling: the modalities interact"
    if beside.answer == "no":
        return f"{start}; unimodal experts add {at_most(beside, metric)} to the fused one"
    return (
        f"{start}; whether unimodal experts add to the fused one cannot be told"
        f"{_detectable(beside, metric)}"
    )


def _nothing_known(predicts: Decision, metric: str) -> str:
    if predicts.answer == "no":
        gain, by = at_most(predicts, metric), "" if metric.startswith("nll") else f"by {metric} "
        return (
            f"neither: {by}nothing here predicts the target; "
            f"the best row gains {gain} over the prior"
        )
    return (
        "cannot be told from these examples, not even whether anything predicts the target"
        f"{_detectable(predicts, metric)}"
    )


def _without_interaction(more: Decision, interaction: Decision, modality: str, metric: str) -> str:
    limit = at_most(interaction, metric)
    if more.answer == "yes":
        return (
            "intra-modality modelling: more than one modality is needed, "
            f"and their interaction adds {limit}"
        )
    if more.answer == "no":
        return (
            f"neither: {modality} alone is enough; other modalities add {at_most(more, metric)}, "
            f"an interaction {limit}"
        )
    return (
        f"no inter-modality modelling: an interaction adds {limit}; "
        f"whether more than {modality} is needed cannot be told{_detectable(more, metric)}"
    )


def _perhaps_interacting(more: Decision, interaction: Decision, modality: str, metric: str) -> str:
    unknown = f"whether the modalities interact cannot be told{_detectable(interaction, metric)}"
    if more.answer == "yes":
        return f"at least intra-modality modelling: more than one modality is needed; {unknown}"
    if more.answer == "no":
        return (
            f"no intra-modality modelling: beside {modality}, other modalities add "
            f"{at_most(more, metric)} by themselves; {unknown}"
        )
    return (
        f"cannot be told from these examples: neither whether more than {modality} is needed"
        f"{_detectable(more, metric)}, nor whether the modalities interact"
        f"{_detectable(interaction, metric)}"
    )


def at_most(decision: Decision, metric: str) -> str:
    """The upper end of an interval, `at most 0.3 points`; `nothing` where that is 0 as shown, or
    below."""
    high = decision.high or 0.0
    if high <= 0 or amount(high, metric) == amount(0.0, metric):
        return "nothing"
    return f"at most {amount(high, metric)}"


def _detectable(decision: Decision, metric: str) -> str:
    """` (smallest detectable 0.3 points)`, or that no difference is; nothing without an
    interval."""
    if decision.smallest_detectable is None:
        return "" if decision.high is None else f" ({NONE_DETECTABLE})"
    return f" (smallest detectable {amount(decision.smallest_detectable, metric)})"


def amount(value: float, metric: str) -> str:
    """In points, or in the metric's own unit."""
    if in_points(metric):
        return f"{100 * value:.1f} points"
    return f"{value:.4f} {unit_of(metric)}".rstrip()


def unit_of(metric: str) -> str:
    """`points`, `nats`, or nothing for the Brier score."""
    if in_points(metric):
        return "points"
    return "nats" if metric.startswith("nll") else ""


def in_points(metric: str) -> bool:
    """Whether a metric, or a data set's own, is shown in percent (R2 too)."""
    return metric_of(metric).percent


def not_yet(reason: str) -> str:
    """The answer where finished runs do not give one."""
    return f"cannot be told yet: {reason}"


def cautions_of(decisions: dict[str, Decision], metric: str) -> list[str]:
    """Where a reference is better, the answer is that of experts which could be better."""
    found = decisions.get(REFERENCE)
    if found is None or found.answer != "yes":
        return []
    return [
        f"{found.contrast.first} is better than the best row by "
        f"{amount(found.difference, metric)}: the experts' encoders limit this answer; "
        "give better ones (experts=... in Python), or, where an absent modality says something "
        "itself, a column of another that says which are absent"
    ]
