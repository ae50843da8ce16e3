"""Audit of a prepared MIMIC folder: its structure, then what was published or is known of the demo.

Sources of the published numbers: the benchmark of Purushotham et al. (2018), its repository and
notebooks, and MultiBench's. Their cohort of 35,637 came from an arbitrary admission per patient,
later corrected to the first, so ranges are given, not numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import numpy as np

from AVMNIST_and_MIMIC.mimic.arrays import SERIES, class_of
from AVMNIST_and_MIMIC.mimic.extraction.layout import ICD9, Arrays, Facts, read
from AVMNIST_and_MIMIC.mimic.extraction.schema import RELEASES
from i2m2.errors import DataError

ICD9_SHARES = (
    0.258, 0.172, 0.688, 0.369, 0.318, 0.294, 0.831, 0.484, 0.391, 0.399,
    0.004, 0.102, 0.190, 0.036, 0.320, 0.086, 0.030, 0.450, 0.479, 0.335,
)  # fmt: skip
FIRST_ADMISSIONS = 46_520
# Printed upstream: static (age, 0, 0, 0, 0), labels all 0.
SPOT_HADM_ID, SPOT_AGE = 199_999, 32_254.52

# The open demo, 24 h in bins of 1 h: computed once by the original queries and scripts.
DEMO_FIRST_IDS = [100375, 100969, 101361, 102203, 103379]
DEMO_LAST_IDS = [197611, 198480, 198503, 199207, 199395]
DEMO_MORTALITY = [27, 3, 4, 12, 39, 66]
DEMO_CLASSES = [27, 3, 1, 8, 27, 27]
DEMO_ICD9 = [38, 29, 70, 53, 32, 29, 81, 58, 44, 54, 0, 9, 17, 2, 40, 11, 2, 40, 43, 28]
DEMO_CODES = [0, 6, 18]
DEMO_ADMISSION_TYPES = [73, 6, 14]
DEMO_SERIES = (  # reference mode: mean, std, admissions without a value, share observed
    (14.1046, 2.3370, 1, 0.3047),
    (121.2080, 23.5003, 1, 0.8177),
    (86.1545, 18.5926, 1, 0.8347),
    (36.6796, 0.8912, 1, 0.3051),
    (2.7430, 1.6991, 51, 0.0493),
    (120.7412, 128.0352, 1, 0.6039),
    (29.0349, 22.7535, 0, 0.1026),
    (11.5918, 8.6608, 0, 0.0954),
    (24.4111, 4.4498, 0, 0.0990),
    (138.8619, 6.0120, 0, 0.1174),
    (4.1177, 0.6625, 0, 0.1286),
    (2.0020, 4.6428, 28, 0.0318),
)


def check(folder: Path) -> None:
    """Print PASS, DIFFERS or NOT JUDGED per fact.

    DataError if the folder is damaged, or if v1.4 itself gave other numbers.
    """
    arrays, facts = read(folder)
    _check_form(folder, arrays, facts)
    _check_values(folder, arrays, facts["mode"])
    report = Report()
    print(
        f"PASS structure and checksum: {len(arrays['hadm_id']):,} rows, "
        f"variant {facts['variant']}, {facts['release']}"
    )
    _nesting(report, arrays["mortality_labels"])
    if facts["mode"] != "im_pk" and report.differing:
        raise DataError(
            f"{folder}: mortality labels contradict each other; prepare the folder again"
        )
    _tables(report, facts)
    for what, count in facts.get("oddities", {}).items():
        if count:
            report.skip(what, f"{count:,}")
    settings = facts["settings"]
    if facts["release"] == "MIMIC-III demo v1.4":
        _demo(report, arrays, facts)
    elif facts["synthetic"]:
        report.skip("published counts", "synthetic data")
    elif (settings["horizon_hours"], settings["bin_hours"]) != (24, 1):
        report.skip("published counts", "they hold for 24 h in bins of 1 h")
    elif facts["release"] == "MIMIC-III v1.4" or facts["mode"] == "im_pk":
        _published(report, arrays, facts)
    else:
        report.skip("published counts", "the tables are of no known release")
    if report.differing and facts["release"] == "MIMIC-III v1.4":
        raise DataError(
            f"{folder}: made from MIMIC-III v1.4, but differs from what is published: "
            f"{', '.join(report.differing)}"
        )
    verdict = f"{len(report.differing)} differ" if report.differing else "all well"
    print(f"checked, {verdict}: {folder}")


class Report:
    """Prints one line per fact and remembers what differs."""

    def __init__(self) -> None:
        self.differing: list[str] = []

    def equal(self, name: str, value: object, expected: object) -> None:
        """PASS if value == expected."""
        self._line(value == expected, f"{name}: {value}", name, f", expected {expected}")

    def within(self, name: str, value: float, low: float, high: float) -> None:
        """PASS if low <= value <= high."""
        text = f"{name}: {value:,.8g} (expected {low:,.8g} to {high:,.8g})"
        self._line(low <= value <= high, text, name)

    def skip(self, name: str, why: str) -> None:
        """A fact without a verdict."""
        print(f"NOT JUDGED {name}: {why}")

    def _line(self, good: bool, text: str, name: str, otherwise: str = "") -> None:
        print(f"PASS {text}" if good else f"DIFFERS {text}{otherwise}")
        if not good:
            self.differing.append(name)


def _check_form(folder: Path, arrays: Arrays, facts: Facts) -> None:
    """DataError unless names, shapes, types and ids are those that `layout` says."""
    n, clean = len(arrays.get("hadm_id", ())), facts["mode"] == "clean"
    bins = round(facts["settings"]["horizon_hours"] / facts["settings"]["bin_hours"])
    real = "float32" if clean else "float64"
    expected = {
        "series": ((n, bins, 12), real),
        "series_mask": ((n, bins, 12), "uint8"),
        "static": ((n, 5), real),
        "mortality_labels": ((n, 6), "int64"),
        "icd9": ((n, 20), "int64"),
        "hadm_id": ((n,), "int64"),
        "subject_id": ((n,), "int64"),
    }
    for name, (shape, kind) in expected.items():
        array = arrays.get(name)
        if array is None or array.shape != shape or array.dtype != kind or not n:
            state = "is missing" if array is None else f"is {array.dtype} of shape {array.shape}"
            _fail(folder, f"{name} {state}; {kind} of shape {shape} is needed")
    for name in ("hadm_id", "subject_id"):
        if len(np.unique(arrays[name])) < n:
            _fail(folder, f"{name} repeats; there is one row per patient")
    if (np.diff(arrays["hadm_id"]) <= 0).any():
        _fail(folder, "hadm_id is not ascending")


def _check_values(folder: Path, arrays: Arrays, mode: str) -> None:
    """DataError for values out of range, and where a value and its mask contradict each other."""
    for name in ("series_mask", "mortality_labels", "icd9"):
        if not np.isin(arrays[name], (0, 1)).all():
            _fail(folder, f"{name} holds other values than 0 and 1")
    if mode == "im_pk":
        return  # values as they came
    series, observed, static = arrays["series"], arrays["series_mask"] == 1, arrays["static"]
    if np.isinf(series).any() or not np.isfinite(static).all():
        _fail(folder, "series holds infinity, or static a value that is not finite")
    missing = observed & np.isnan(series)
    # The published rules admit FiO2 = 0: observed, and yet no ratio.
    missing[..., SERIES.index("P/F ratio")] &= mode == "clean"
    if missing.any():
        place = np.argwhere(missing)[0].tolist()
        _fail(
            folder,
            f"series is NaN at {place} (row, bin, feature), which series_mask calls observed",
        )
    age, codes, admission = static[:, 0], static[:, 1:4], static[:, 4]
    in_range = (age > 0).all() and np.isin(codes, (0, 1)).all()
    if not (in_range and np.isin(admission, (0, 1, 2)).all()):
        _fail(folder, "static holds values outside its range")


def _fail(folder: Path, what: str) -> NoReturn:
    raise DataError(f"{folder / 'mimic.npz'}: {what}; prepare the folder again")


def _nesting(report: Report, labels: np.ndarray) -> None:
    for inner, outer in ((1, 2), (2, 3), (3, 0), (4, 5)):
        nested = bool((labels[:, inner] <= labels[:, outer]).all())
        report.equal(f"mortality column {inner} within column {outer}", nested, True)


def _tables(report: Report, facts: Facts) -> None:
    published = RELEASES.get(facts["release"])
    if published is None:
        return report.skip("table row counts", f"release {facts['release']}")
    tables = facts["tables"]
    report.equal("table row counts", tables, {name: published[name] for name in tables})


def _published(report: Report, arrays: Arrays, facts: Facts) -> None:
    labels = arrays["mortality_labels"]
    report.within("admissions", len(labels), 35_000, 37_000)
    for step in facts["funnel"]:
        if step["rule"] == "first admission of its subject":
            report.equal("first admissions", step["rows"], FIRST_ADMISSIONS)
        if step["rule"] == "at least one usable event":  # 38,425 published
            report.within("adults with usable events", step["rows"], 38_225, 38_625)
    report.within("death in hospital", labels[:, 0].mean(), 0.095, 0.115)  # 0.10489 published
    report.within("death within a day of ICU admission", labels[:, 1].mean(), 0, 0.01)
    class_0 = (class_of("mortality", arrays) == 0).mean()  # 0.761 of MultiBench's test tenth
    report.within("share of mortality class 0", class_0, 0.73, 0.79)
    for name, value, share in zip(ICD9, arrays["icd9"].mean(axis=0), ICD9_SHARES, strict=True):
        report.within(f"share of ICD-9 {name}", value, max(0, share - 0.02), share + 0.02)
    spot, rows = f"HADM_ID {SPOT_HADM_ID}", np.flatnonzero(arrays["hadm_id"] == SPOT_HADM_ID)
    if facts["mode"] == "im_pk":
        return report.skip(spot, "no ids")
    if not len(rows):
        return report.skip(spot, "not its patient's first admission")
    age, *others = arrays["static"][rows[0]]
    report.equal(f"{spot}, age", round(float(age), 2), SPOT_AGE)
    rest = int(sum(others) + labels[rows[0]].sum())
    report.equal(f"{spot}, other static and labels", rest, 0)


def _demo(report: Report, arrays: Arrays, facts: Facts) -> None:
    settings, ids, static = facts["settings"], arrays["hadm_id"], arrays["static"]
    if settings["horizon_hours"] == 48:
        return report.equal("admissions at 48 h", len(ids), 82)
    if settings["horizon_hours"] != 24:
        return report.skip("the demo's counts", "known for 24 h and 48 h")
    classes = np.bincount(class_of("mortality", arrays), minlength=6).tolist()
    admission_types = np.bincount(static[:, 4].astype(int), minlength=3).tolist()
    report.equal("admissions", len(ids), 93)
    report.equal("first HADM_IDs", ids[:5].tolist(), DEMO_FIRST_IDS)
    report.equal("last HADM_IDs", ids[-5:].tolist(), DEMO_LAST_IDS)
    report.equal("mortality columns", _column_sums(arrays["mortality_labels"]), DEMO_MORTALITY)
    report.equal("mortality classes", classes, DEMO_CLASSES)
    report.equal("ICD-9 columns", _column_sums(arrays["icd9"]), DEMO_ICD9)
    report.equal("AIDS, haematological, metastatic", _column_sums(static[:, 1:4]), DEMO_CODES)
    report.equal("admission types", admission_types, DEMO_ADMISSION_TYPES)
    median = float(np.median(static[:, 0]))
    report.within("median age in days", median, 28_083.45, 28_083.47)
    if facts["mode"] != "reference" or settings["bin_hours"] != 1:
        return report.skip("the demo's series", "known for mode reference in bins of 1 h")
    report.within("mean age in days", float(static[:, 0].mean()), 32_123.93, 32_123.95)
    _demo_series(report, arrays)


def _demo_series(report: Report, arrays: Arrays) -> None:
    for k, (name, published) in enumerate(zip(SERIES, DEMO_SERIES, strict=True)):
        x, observed = arrays["series"][..., k], arrays["series_mask"][..., k]
        value = (
            round(float(np.nanmean(x)), 4),
            round(float(np.nanstd(x)), 4),
            int(np.isnan(x).all(axis=1).sum()),
            round(float(observed.mean()), 4),
        )
        report.equal(f"{name} (mean, std, admissions without, share observed)", value, published)


def _column_sums(array: np.ndarray) -> list[int]:
    return array.sum(axis=0).astype(int).tolist()
