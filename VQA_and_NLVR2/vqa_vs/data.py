"""VQA-VS as training reads it: what features are needed of, answers as labels, and the three splits
on the features.

Input: an image of COCO 2014 and a question about it, as vectors of a frozen backbone.
Label: one of thousands of answers, with a soft score for each that any of ten people gave.
Splits: train, val and IID test, of which nine OOD sets are parts.
Licence: see the repository, and cocodataset.org for the images.
Source: the JSON files of the repository PhoebusSi/VQA-VS; see VQA_and_NLVR2/README.md, section
    Data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from i2m2.errors import DataError
from i2m2.files import make_once
from i2m2.training.data import first_of, read_description
from VQA_and_NLVR2.features.cache import CachedExamples, Features
from VQA_and_NLVR2.features.plan import Plan
from VQA_and_NLVR2.inputs.records import Interned, positions
from VQA_and_NLVR2.synthetic.generate import USUAL, make_synthetic
from VQA_and_NLVR2.vqa_vs.answers import RULES, TRAINING, Vocabulary, counts_of
from VQA_and_NLVR2.vqa_vs.files import (
    OOD_SETS,
    PUBLISHED,
    SPLITS,
    VqaVs,
    count_vocabulary,
    files_of,
    read_vqa_vs,
)
from VQA_and_NLVR2.vqa_vs.images import file_names, image_path
from VQA_and_NLVR2.vqa_vs.predictions import metrics_of
from VQA_and_NLVR2.vqa_vs.settings import VQAData

# Arrays that are kept beside the features, and the pairs that these are of.
INDEX = (
    "pairs", "question_id", "image_id", "sizes", "answer_type", "answers", "answer_texts", "member",
)  # fmt: skip


class SplitSize(NamedTuple):
    """What is used of a split, and what is left out."""

    questions: int
    of: int
    without_label: int
    without_image: int


def plan_of(config: VQAData) -> tuple[Plan, Sequence[Path | None]]:
    """What features are needed of, and the file of each image. Images and questions of training
    come first."""
    folder, pictures = config.folder, Path(config.images or config.folder)
    if config.source == "synthetic":
        make_once(folder, _make)
    data = read_vqa_vs(folder)
    splits = [data.splits[name] for name in SPLITS]
    image_id = np.concatenate([split.image_id for split in splits])
    question = merged([split.question for split in splits])
    trained = np.unique(data.train.image_id)
    images = np.concatenate([trained, np.setdiff1d(image_id, trained)])
    pairs = np.stack([positions(image_id, images), question.codes], axis=1)
    about = described(folder, data)
    index = _index(data) | _vocabularies(data, folder, about)
    plan = Plan(
        images=list(map(str, images)),
        texts=question.strings,
        pairs=pairs.astype(np.int32),
        varied_images=len(trained),
        varied_pairs=len(data.train),
        about=about,
        index=index,
        files=files_of(folder),
        looked_for=file_names(pictures),
    )
    return plan, image_path(pictures, images)


def _index(data: VqaVs) -> dict[str, np.ndarray]:
    """Ids and answers of all questions, kept beside the features."""
    splits = [data.splits[name] for name in SPLITS]
    answers = merged([split.answers for split in splits])
    return {
        "question_id": np.concatenate([split.question_id for split in splits]),
        "image_id": np.concatenate([split.image_id for split in splits]),
        "sizes": np.array([len(split) for split in splits]),
        "answer_type": np.concatenate([split.answer_type for split in splits]),
        "answers": answers.codes,
        "answer_texts": _packed(answers.strings),
        "member": data.member,
    }


def _vocabularies(data: VqaVs, folder: Path, about: dict[str, object]) -> dict[str, np.ndarray]:
    """The vocabulary of every rule; why there is none goes to `about`."""
    index, reasons = {}, {}
    for rule in RULES:
        try:
            index[f"vocabulary_{rule}"] = _packed(count_vocabulary(data, rule, folder).answers)
        except DataError as error:
            reasons[rule] = str(error)
            print(f"vqa_vs: no vocabulary {rule}: {error}", flush=True)
    if reasons:
        about["no_vocabulary"] = reasons
    return index


def described(folder: Path, data: VqaVs) -> dict[str, object]:
    """What a folder says of itself in dataset.json; the published files have none, and are known by
    their sizes."""
    if (folder / "dataset.json").exists():
        about = read_description(folder)
        return {key: about[key] for key in ("variant", "synthetic", "description")}
    sizes = {name: len(split) for name, split in data.splits.items()}
    sizes |= dict(zip(OOD_SETS, data.member.sum(axis=0).tolist(), strict=True))
    same = sizes == PUBLISHED
    text = "VQA-VS as published"
    if not same:
        counts = "/".join(f"{sizes[name]:,}" for name in SPLITS)
        text = f"VQA-VS, {counts} questions in train/val/test: NOT the published sizes"
    variant = "published" if same else "other_sizes"
    return {"variant": variant, "synthetic": False, "description": text}


def merged(parts: Sequence[Interned]) -> Interned:
    """One after the other, with one table of strings."""
    number: dict[str, int] = {}
    codes = []
    for part in parts:
        new = [number.setdefault(text, len(number)) for text in part.strings]
        codes.append(np.array([*new, -1], np.int32)[part.codes])
    return Interned(np.concatenate(codes), tuple(number))


def _packed(texts: Sequence[str]) -> np.ndarray:
    """Strings as the bytes of a JSON list, since an array of strings would give each the length of
    the longest."""
    return np.frombuffer(json.dumps(list(texts)).encode(), np.uint8)


def _unpacked(array: np.ndarray) -> tuple[str, ...]:
    return tuple(json.loads(array.tobytes()))


def _make(folder: Path) -> None:
    pictures = f"{USUAL['vqa_vs']:,} pictures of shapes"
    print(f"vqa_vs: generating questions about {pictures}, this once", flush=True)
    make_synthetic(folder, "vqa_vs")


def vocabulary_of(features: Features, rule: str) -> Vocabulary:
    """The vocabulary of a rule in RULES. DataError, with the reason, if it could not be counted."""
    found = features.index(f"vocabulary_{rule}")
    if not found:
        reasons = features.facts["about"].get("no_vocabulary", {})
        why = reasons.get(rule, "it was not counted; extract the features again")
        raise DataError(f"{features.folder}: no vocabulary {rule}: {why}")
    return Vocabulary(_unpacked(*found.values()))


def splits_of(
    features: Features, vocabulary: Vocabulary, config: VQAData
) -> tuple[dict[str, CachedExamples], dict[str, dict[str, int]]]:
    """-> the splits, and {split: counts of questions and of what is left out}.

    Without an answer in the vocabulary a question is left out of training, and scored in validation
    and test; without a readable image it is left out of all of them. DataError if a split has none
    left.
    """
    index = features.index(*INDEX)
    answers = Interned(index["answers"], _unpacked(index["answer_texts"]))
    answer, count = answers_of(answers, vocabulary)
    score = np.where(answer >= 0, TRAINING[count], 0).astype(np.float32)
    image, text = index["pairs"].T
    readable, labelled = features.readable[image], (answer >= 0).any(axis=1)
    ends = np.cumsum(index["sizes"])
    splits, sizes = {}, {}
    for name, begin, end in zip(SPLITS, ends - index["sizes"], ends, strict=True):
        rows = np.arange(begin, end)
        used = rows[readable[rows]]
        if name == "train":
            used = first_of(used[labelled[used]], config.train_size)
        if not len(used):
            raise DataError(
                f"{features.folder}: {name}: none of {len(rows):,} questions can be used; "
                "every split needs at least one"
            )
        columns = {"answer": answer[used], "count": count[used]}
        columns["answer_type"] = index["answer_type"][used]
        columns["vocabulary"] = np.array(vocabulary.answers)
        if name == "test":
            columns["member"] = index["member"][used - begin]
        splits[name] = CachedExamples(
            features,
            rows={"image": image[used, None], "text": text[used, None], "fused": used[:, None]},
            y={"answer": answer[used], "score": score[used]},
            id=index["question_id"][used],
            group=index["image_id"][used],
            columns=columns,
            varied=name == "train",
        )
        without_label, without_image = (~labelled[rows]).sum(), (~readable[rows]).sum()
        sizes[name] = SplitSize(len(used), len(rows), int(without_label), int(without_image))
    return splits, {name: size._asdict() for name, size in sizes.items()}


def left_out_line(sizes: Mapping[str, Mapping[str, int]], vocabulary: Vocabulary, rule: str) -> str:
    """What is left out of the splits, in a line."""
    parts = [f"{name} {size['without_label']:,} of {size['of']:,}" for name, size in sizes.items()]
    missing = {name: size["without_image"] for name, size in sizes.items()}
    missing = [f"{name} {number:,}" for name, number in missing.items() if number]
    images = f"; left out for want of their image: {', '.join(missing)}" if missing else ""
    return (
        f"vqa_vs: vocabulary {rule} has {len(vocabulary):,} answers; questions without any of "
        f"them: {', '.join(parts)}: left out of training, scored in val and test{images}"
    )


def answers_of(answers: Interned, vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """Ten answers of [n] questions -> int16 [n, 10] the distinct ones that are in the vocabulary,
    in order of first appearance, then -1; int8 [n, 10] how many people gave each, then 0."""
    label, (count, first) = answers.look_up(vocabulary.index), counts_of(answers)
    chosen = first & (label >= 0)
    order = np.argsort(~chosen, axis=1, kind="stable")
    label = np.take_along_axis(np.where(chosen, label, -1), order, axis=1)
    count = np.take_along_axis(np.where(chosen, count, 0), order, axis=1)
    return label.astype(np.int16), count.astype(np.int8)


def baseline(splits: Mapping[str, CachedExamples]) -> dict[str, float]:
    """Test scores of the most frequent training answer, by soft score, given to every question."""
    y = splits["train"].y
    given = y["answer"] >= 0
    most = np.bincount(y["answer"][given], y["score"][given]).argmax()
    test = splits["test"].columns
    n = len(test["answer"])
    made = {
        "product_top": np.full((n, 1), most),
        "product_answer_log_prob": np.zeros((n, 10)),
        "product_logsumexp": np.zeros(n),
        "product_entropy": np.zeros(n),
    }
    scores = metrics_of({**test, **made})
    scores = {name: value for name, value in scores.items() if np.isfinite(value)}
    return {name: value for name, value in scores.items() if name not in ("nll", "entropy")}
