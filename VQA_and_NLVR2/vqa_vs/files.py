"""VQA-VS as its authors publish it: JSON files of questions and annotations.

    Training/Training-{Ques,Ans}.json   Val/Val-{Ques,Ans}.json   IID-Test/IID-Test-{Ques,Ans}.json
    OOD-Test/<SET>/OOD-Test-<SET>-Ques.json: nine sets, each a part of the IID test
    test_annotations.json: the IID test's answers and the sets' ids, in place of IID-Test-Ans.json
        and of OOD-Test

Each may also be .gz or .zip, or lie in Val.zip, IID-Test.zip, OOD-Test.zip, all of them in the
folder itself or in its `data/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from i2m2.errors import DataError, SettingsError
from VQA_and_NLVR2.inputs.json_files import Source, find_source
from VQA_and_NLVR2.inputs.records import check_ids, positions
from VQA_and_NLVR2.vqa_vs.annotations import VqaSplit, join, read_annotations, read_questions
from VQA_and_NLVR2.vqa_vs.answers import MINIMUM, RULES, Vocabulary, build_vocabulary

SPLITS = ("train", "val", "test")
OOD_SETS = ("QT", "KW", "KWP", "QT+KW", "KO", "KOP", "QT+KO", "KW+KO", "QT+KW+KO")
PUBLISHED = {  # questions of each split and set
    "train": 461_124,
    "val": 32_723,
    "test": 164_264,
    "QT": 23_816,
    "KW": 27_730,
    "KWP": 14_358,
    "QT+KW": 17_630,
    "KO": 38_423,
    "KOP": 42_806,
    "QT+KO": 27_484,
    "KW+KO": 17_447,
    "QT+KW+KO": 9_249,
}
STEMS = {"train": "Training/Training", "val": "Val/Val", "test": "IID-Test/IID-Test"}
TEST = "test_annotations.json"
# Of VQA v2, whose majority answers the vocabulary `fiber` counts.
VQA_V2 = tuple(f"v2_mscoco_{part}2014_annotations.json" for part in ("train", "val"))
HOW_TO_GET = "how to get it: VQA_and_NLVR2/README.md, section Data"


@dataclass(frozen=True)
class VqaVs:
    """The three splits, and which questions of the IID test each OOD set has: bool [test, 9], in
    the order of OOD_SETS."""

    train: VqaSplit
    val: VqaSplit
    test: VqaSplit
    member: np.ndarray

    @property
    def splits(self) -> dict[str, VqaSplit]:
        """train, val, test."""
        return {"train": self.train, "val": self.val, "test": self.test}


def read_vqa_vs(root: Path) -> VqaVs:
    """Read the whole data set. DataError: a file is missing, a question is in two splits, or in an
    OOD set but not in the test."""
    bases = _bases(root)
    questions = {split: find_source(bases, f"{stem}-Ques.json") for split, stem in STEMS.items()}
    answers = {split: find_source(bases, f"{stem}-Ans.json") for split, stem in STEMS.items()}
    extra = find_source(bases, TEST)
    _refuse_missing(root, questions, answers, extra)
    rest: dict[str, Any] = {}  # of `extra`: which ids each OOD set has
    splits = {}
    for split, source in answers.items():
        annotations = read_annotations(source) if source else read_annotations(extra, rest)
        splits[split] = join(read_questions(questions[split]), annotations)
    _check_disjoint(root, splits)
    return VqaVs(**splits, member=_members(bases, splits["test"].question_id, extra, rest))


def _refuse_missing(
    root: Path,
    questions: Mapping[str, Source | None],
    answers: Mapping[str, Source | None],
    extra: Source | None,
) -> None:
    """DataError names what is missing; `extra` stands for the answers of the test."""
    missing = []
    for split, stem in STEMS.items():
        if questions[split] is None:
            missing.append(f"{stem}-Ques.json")
        if answers[split] is None and not (split == "test" and extra):
            missing.append(f"{stem}-Ans.json")
    if missing:
        raise DataError(
            f"{root}: {len(missing)} of 6 files are missing: {', '.join(missing)}; {HOW_TO_GET}"
        )


def files_of(root: Path) -> dict[str, Path]:
    """{name: file} of all that `read_vqa_vs` and `count_vocabulary` read, as far as it is there."""
    names = [f"{stem}-{what}.json" for stem in STEMS.values() for what in ("Ques", "Ans")]
    names += [_ood_file(name) for name in OOD_SETS]
    names += [TEST, *VQA_V2]
    found = {name: find_source((root, root / "data"), name) for name in names}
    return {name: source.path for name, source in found.items() if source is not None}


def _ood_file(name: str) -> str:
    return f"OOD-Test/{name}/OOD-Test-{name}-Ques.json"


def has_folders(root: Path) -> bool:
    """Whether the training questions of the whole data set are there."""
    return find_source(_bases(root), "Training/Training-Ques.json") is not None


def _bases(root: Path) -> tuple[Path, ...]:
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; {HOW_TO_GET}")
    return root, root / "data"


def _check_disjoint(root: Path, splits: dict[str, VqaSplit]) -> None:
    names = list(splits)
    for i, name in enumerate(names):
        for other in names[:i]:
            shared = np.intersect1d(splits[name].question_id, splits[other].question_id)
            if len(shared):
                raise DataError(
                    f"{root}: {other} and {name} share {len(shared):,} question_ids, "
                    f"first {shared[0]}; get the files again"
                )


def _members(
    bases: Sequence[Path], test_ids: np.ndarray, extra: Source | None, rest: dict[str, Any]
) -> np.ndarray:
    """bool [test, 9], from the sets' own files, else from the id lists of test_annotations.json."""
    member = np.zeros((len(test_ids), len(OOD_SETS)), bool)
    for place, name in enumerate(OOD_SETS):
        source = find_source(bases, _ood_file(name))
        if source is None and extra is not None and not rest:
            read_annotations(extra, rest)
        key = f"{name.replace('+', '')}_qid"
        if source is not None:
            ids = read_questions(source).question_id
        elif key in rest:
            source = Source(extra.path, f"{extra.member}[{key}]")
            ids = _listed(source, rest[key])
        else:
            raise DataError(
                f"{bases[0]}: no {_ood_file(name)}, nor {TEST} with {key}; {HOW_TO_GET}"
            )
        at = positions(ids, test_ids)
        if (at < 0).any():
            raise DataError(
                f"{source}: {(at < 0).sum():,} of {len(ids):,} questions of OOD set {name} are not "
                f"in the IID test, first question_id {ids[at < 0][0]}; get the files again"
            )
        member[at, place] = True
    return member


def _listed(source: Source, value: Any) -> np.ndarray:
    """The ids of a list in test_annotations.json."""
    if not isinstance(value, list):
        raise DataError(f"{source}: is no list of question_ids; get the file again")
    if wrong := [number for number in value if type(number) is not int or abs(number) >> 63]:
        raise DataError(
            f"{source}: {wrong[0]!r} is no question_id, which are integers; get the file again"
        )
    ids = np.array(value, np.int64)
    check_ids(source, ids)
    return ids


def count_vocabulary(
    data: VqaVs, rule: str, root: Path | None = None, minimum: int = MINIMUM
) -> Vocabulary:
    """The vocabulary of a rule in RULES. `fiber` counts VQA v2's own files where `root` has them
    (v2_mscoco_{train,val}2014_annotations.json), else all of VQA-VS: the same questions, so the
    same answers under other labels.

    DataError where answers of test_annotations.json would be needed, which has no majority answers.
    """
    if rule not in RULES:
        raise SettingsError(f"vocabulary={rule!r} is unknown; choose one of {', '.join(RULES)}")
    if rule == "fiber" and root is not None:
        files = [find_source(_bases(root), name) for name in VQA_V2]
        if all(files):
            majority = (read_annotations(file).majority.texts() for file in files)
            return build_vocabulary(chain.from_iterable(majority), minimum)
    splits = {split: data.splits[split] for split in RULES[rule].splits}
    for name, split in splits.items():
        lacking = split.question_id[split.majority.codes < 0]
        if len(lacking):
            get = f"give {STEMS[name]}-Ans.json with one in every record"
            if rule == "fiber":
                get += f", or VQA v2's {' and '.join(VQA_V2)}"
            if name not in RULES["training"].splits:
                get += ", or choose the vocabulary `training`"
            raise DataError(
                f"{name}: {len(lacking):,} questions have no multiple_choice_answer, which "
                f"vocabulary {rule} counts, first question_id {lacking[0]}; {get}"
            )
    majority = (split.majority.texts() for split in splits.values())
    return build_vocabulary(chain.from_iterable(majority), minimum)
