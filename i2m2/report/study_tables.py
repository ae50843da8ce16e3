"""The studies of a results folder (`i2m2.report.studies`) as tables: Table C.7, section 4.6,
calibration and combinations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from i2m2.report.render import Sheet
from i2m2.report.studies import PRODUCT
from i2m2.report.tables import in_percent, number

STUDIES = (
    "Table C.7",
    "Section 4.6",
    "Calibration",
    "Combination",
    "Reliability",
)  # their files bear these names
WAYS = {
    "plain": "product as it is",
    "temperature": "one temperature",
    "prior_divided": "prior divided out",
    "fitted": "expert weights and prior exponent",
    "joint": "trained jointly (I2M2)",
}


def diagrams_of(found: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """{label of a run: {"product", each of several experts: reliability diagram}}."""
    experts = found.get("expert_reliability", {})
    shown = {run: label for run, label in labels.items() if run in found.get("reliability", {})}
    return {
        label: {PRODUCT: found["reliability"][run]} | experts.get(run, {})
        for run, label in shown.items()
    }


def diagrams_sheet(diagrams: Mapping[str, Mapping[str, Mapping[str, list]]]) -> Sheet:
    """The numbers behind the reliability diagrams, as `diagrams_of` gives them: a row per bin that
    holds examples."""
    columns = ("low", "high", "count", "confidence", "accuracy")
    grid = [["model", "of", *columns]]
    for label, by_expert in diagrams.items():
        for name, shown in by_expert.items():
            bins = [
                values
                for values in zip(*(shown[column] for column in columns), strict=True)
                if values[2]
            ]
            grid += [[label, name, *(f"{value:.6g}" for value in values)] for values in bins]
    return Sheet(title="Reliability diagrams", grids={"": grid})


def sheets_of(found: Mapping[str, Any], labels: Mapping[str, str], about: str) -> list[Sheet]:
    """The studies as tables; `labels`: of the runs, in their order. Other runs are left out."""
    made = [_entropy_sheet, _rescue_sheet, _calibration_sheet, _combination_sheet]
    sheets = [
        make(
            found,
            {run: label for run, label in labels.items() if run in found.get("calibration", {})},
            about,
        )
        for make in made
    ]
    made = [sheet for sheet in sheets if sheet is not None]
    if found.get("without"):
        grid = [["why"], *([reason] for reason in found["without"])]
        made.append(
            Sheet(title="Runs that are not in these studies", about=about, grids={"": grid})
        )
    return made


def _entropy_sheet(found: Mapping[str, Any], labels: Mapping[str, str], about: str) -> Sheet | None:
    rows = [
        (labels[run], table, found["seeds"][run])
        for run, table in found.get("entropy", {}).items()
        if run in labels
    ]
    if not rows:
        return None
    columns = list(dict.fromkeys(name for _, table, _ in rows for name in table))
    grid = [["model", *columns, "seeds"]]
    grid += [
        [label, *(_number(table.get(name)) for name in columns), str(round(n))]
        for label, table, n in rows
    ]
    notes = [
        "In nats, mean over the seeds and labels. An expert that knows nothing but the class frequencies is as uncertain as y."
    ]
    return Sheet(
        title="Table C.7: entropy of y and of every expert after joint training",
        about=about,
        grids={"": grid},
        notes=notes,
    )


def _rescue_sheet(found: Mapping[str, Any], labels: Mapping[str, str], about: str) -> Sheet | None:
    rows = [(labels[run], table) for run, table in found.get("rescue", {}).items() if run in labels]
    if not rows:
        return None
    grid = [
        [
            "model",
            "every expert wrong",
            "of these rescued",
            "every expert right",
            "of these spoilt",
            "any right, product wrong",
        ]
    ]
    for label, t in rows:
        counts = (
            ("all_wrong", "examples"),
            ("rescued", "all_wrong"),
            ("all_right", "examples"),
            ("spoilt", "all_right"),
        )
        shares = [t[part] / t[whole] if t[whole] else None for part, whole in counts]
        grid.append([label, *(_percent(value) for value in (*shares, t["lost_share"]))])
    notes = [
        "In percent: columns 1, 3 and 5 of all examples; seeds and labels counted together. The paper states over 30 % for VQA-VS."
    ]
    title = "Section 4.6: cases that the product rescues, and spoils"
    return Sheet(title=title, about=about, grids={"": grid}, notes=notes)


def _calibration_sheet(
    found: Mapping[str, Any], labels: Mapping[str, str], about: str
) -> Sheet | None:
    first = next(iter(found["calibration"][run][PRODUCT] for run in labels), {})
    grid = [["model", "of", *first]]
    for run, label in labels.items():
        by_expert = found["calibration"][run]
        alone = len(by_expert) <= 2  # a product of one expert is that expert
        for name, values in by_expert.items():
            if not (alone and name != PRODUCT):
                grid.append([label, "itself" if alone else name, *_scores(values)])
    if len(grid) == 1:
        return None
    shares = " and ".join(metric for metric in first if in_percent(metric))
    notes = [
        f"In percent: {shares} (15 bins of confidence); Brier score 0 to 2, NLL in nats; mean over the seeds and labels."
    ]
    return Sheet(
        title="Calibration: every method and every expert after joint training",
        about=about,
        grids={"": grid},
        notes=notes,
    )


def _combination_sheet(
    found: Mapping[str, Any], labels: Mapping[str, str], about: str
) -> Sheet | None:
    grids, notes = {}, []
    for run, table in found.get("combination", {}).items():
        if run not in labels:
            continue
        if "why_not" in table:
            grids[labels[run] if grids else ""] = [
                [f"parts of {labels[run]}", "scores"],
                ["combined afterwards", "not made"],
            ]
            notes.append(f"{labels[run]}: {table['why_not']}.")
            continue
        rows = [[WAYS[way], *_scores(table[way]["scores"])] for way in WAYS if way in table]
        grids[labels[run] if grids else ""] = [
            [f"parts of {labels[run]}", *table["plain"]["scores"]],
            *rows,
        ]
        fitted = table["fitted"]
        weights = ", ".join(
            f"{name} {_plain(weight)}" for name, weight in fitted["weights"].items()
        )
        of = f" (in the order {', '.join(table['labels'])})" if "labels" in table else ""
        notes.append(
            f"{labels[run]}: fitted weights{of} {weights}; prior exponent {_plain(fitted['gamma'])}; seeds {table['seeds']}."
            + (f" Not trained under its tag: {table['untagged']}." if table.get("untagged") else "")
        )
    if not grids:
        return None
    notes.insert(
        0,
        "Experts that were trained separately, combined afterwards; what is fitted is fitted on validation.",
    )
    return Sheet(
        title="Combination: separately trained experts against joint training",
        about=about,
        grids=grids,
        notes=notes,
    )


def _scores(values: Mapping[str, float | None]) -> Iterable[str]:
    return ["-" if value is None else number(value, metric) for metric, value in values.items()]


def _percent(value: float | None) -> str:
    return "-" if value is None else number(value)


def _number(value: float | None) -> str:
    return "-" if value is None else number(value, "entropy")


def _plain(value: Any) -> str:
    """A number, or one per label."""
    return " / ".join(f"{v:.2f}" for v in value) if isinstance(value, list) else f"{value:.2f}"
