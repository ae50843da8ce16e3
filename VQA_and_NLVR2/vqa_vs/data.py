"""VQA-VS as training reads it: what features are needed of, answers as labels, and the three splits
on the features."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from i2m2.errors import DataError
from i2m2.files import make_once
from i2m2.training.data import read_description
from VQA_and_NLVR2.features.cache import CachedExamples, Features, Plan
from VQA_and_NLVR2.inputs.records import Interned, positions
from VQA_and_NLVR2.vqa_vs.answers import RULES, TRAINING, Vocabulary, counts_of
from VQA_and_NLVR2.vqa_vs.files import (
    OOD_SETS,
    PUBLISHED,
    VqaVs,
    count_vocabulary,
    files_of,
    image_path,
    read_vqa_vs,
)
from VQA_and_NLVR2.vqa_vs.predictions import metrics_of

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class VQAData:
    """Where the data lie, and which answers there are.

    Args:
        source: files as published, or synthetic: questions, pictures, the tiny FIBER and its
            features made on first use
        dir: folder of the question and answer files; null: data/vqa_vs, or data/vqa_vs-synthetic
            for synthetic
        images: folder of train2014 and val2014; null: dir
        vocabulary: fiber: majority answers of 9 and more questions of VQA v2's train and val
            (3,129), which are also those of the test; or training: of the training questions alone
            (2,486)
        train_size: use only the first so many training questions; null: all
    """

    source: Literal["files", "synthetic"] = "files"
    dir: str | None = None
    images: str | None = None
    vocabulary: Literal["fiber", "training"] = "fiber"
    train_size: int | None = None

    @property
    def folder(self) -> Path:
        return Path(
            self.dir or ("data/vqa_vs-synthetic" if self.source == "synthetic" else "data/vqa_vs")
        )


def plan_of(config: VQAData) -> tuple[Plan, Sequence[Path | None]]:
    """What features are needed of, and the file of each image. Images and questions of training
    come first."""
    if config.source == "synthetic":
        make_once(config.folder, _make)
    folder = config.folder
    data = read_vqa_vs(folder)
    splits = [data.splits[name] for name in SPLITS]
    image_id = np.concatenate([split.image_id for split in splits])
    question, answers = (
        merged([getattr(split, name) for split in splits]) for name in ("question", "answers")
    )
    images = np.unique(data.train.image_id)
    images = np.concatenate([images, np.setdiff1d(image_id, images)])
    index = {
        "question_id": np.concatenate([split.question_id for split in splits]),
        "image_id": image_id,
        "sizes": np.array([len(split) for split in splits]),
        "answer_type": np.concatenate([split.answer_type for split in splits]),
        "answers": answers.codes,
        "answer_texts": _packed(answers.strings),
        "member": data.member,
    }
    about = described(folder, data)
    for rule in RULES:
        try:
            index[f"vocabulary_{rule}"] = _packed(count_vocabulary(data, rule, folder).answers)
        except DataError as error:
            about["no_vocabulary"] = {**about.get("no_vocabulary", {}), rule: str(error)}
            print(f"vqa_vs: no vocabulary {rule}: {error}", flush=True)
    pairs = np.stack([positions(image_id, images), question.codes], axis=1).astype(np.int32)
    trained = len(np.unique(data.train.image_id))
    plan = Plan(
        list(map(str, images)),
        question.strings,
        pairs,
        trained,
        len(data.train),
        about,
        index,
        files_of(folder),
    )
    return plan, image_path(Path(config.images or folder), images)


def described(folder: Path, data: VqaVs) -> dict[str, Any]:
    """What a folder says of itself in dataset.json; the published files have none, and are known by
    their sizes."""
    if (folder / "dataset.json").exists():
        return {
            key: read_description(folder)[key] for key in ("variant", "synthetic", "description")
        }
    sizes = {name: len(split) for name, split in data.splits.items()} | dict(
        zip(OOD_SETS, data.member.sum(axis=0).tolist(), strict=True)
    )
    same = sizes == PUBLISHED
    counts = "/".join(f"{sizes[name]:,}" for name in SPLITS)
    text = (
        "VQA-VS as published"
        if same
        else f"VQA-VS, {counts} questions in train/val/test: NOT the published sizes"
    )
    return {
        "variant": "published" if same else "other_sizes",
        "synthetic": False,
        "description": text,
    }


def merged(parts: Sequence[Interned]) -> Interned:
    """One after the other, with one table of strings."""
    number: dict[str, int] = {}
    codes = []
    for part in parts:
        table = np.array(
            [*(number.setdefault(text, len(number)) for text in part.strings), -1], np.int32
        )
        codes.append(table[part.codes])
    return Interned(np.concatenate(codes), tuple(number))


def _packed(texts: Sequence[str]) -> np.ndarray:
    """Strings as the bytes of a JSON list, since an array of strings would give each the length of
    the longest."""
    return np.frombuffer(json.dumps(list(texts)).encode(), np.uint8)


def _unpacked(array: np.ndarray) -> tuple[str, ...]:
    return tuple(json.loads(array.tobytes()))


def _make(folder: Path) -> None:
    from VQA_and_NLVR2.make_synthetic import USUAL, make_synthetic

    print(
        f"vqa_vs: generating questions about {USUAL['vqa_vs']:,} pictures of shapes, this once",
        flush=True,
    )
    make_synthetic(folder, "vqa_vs")


def vocabulary_of(features: Features, rule: str) -> Vocabulary:
    """The vocabulary of a rule in RULES. DataError, with the reason, if it could not be counted."""
    found = features.index(f"vocabulary_{rule}")
    if not found:
        why = (
            features.facts["about"]
            .get("no_vocabulary", {})
            .get(rule, "it was not counted; extract the features again")
        )
        raise DataError(f"{features.folder}: no vocabulary {rule}: {why}")
    return Vocabulary(_unpacked(*found.values()))


def splits_of(
    features: Features, vocabulary: Vocabulary, config: VQAData
) -> tuple[dict[str, CachedExamples], dict[str, Any]]:
    """-> the splits, and {split: counts of questions and of what is left out}.

    Without an answer in the vocabulary a question is left out of training, and scored in validation
    and test; without a readable image it is left out of all of them. DataError if a split has none
    left.
    """
    index = features.index(
        "pairs",
        "question_id",
        "image_id",
        "sizes",
        "answer_type",
        "answers",
        "answer_texts",
        "member",
    )
    answer, count = answers_of(
        Interned(index["answers"], _unpacked(index["answer_texts"])), vocabulary
    )
    readable, labelled = features.readable[index["pairs"][:, 0]], (answer >= 0).any(axis=1)
    ends = np.cumsum(index["sizes"])
    splits, sizes = {}, {}
    for name, begin, end in zip(SPLITS, ends - index["sizes"], ends, strict=True):
        rows = np.arange(begin, end)
        kept = rows[readable[rows]]
        if name == "train":
            kept = kept[labelled[kept]][: config.train_size]
        if not len(kept):
            raise DataError(
                f"{features.folder}: {name}: none of {len(rows):,} questions can be used; every split needs at least one"
            )
        columns = {
            "answer": answer[kept],
            "count": count[kept],
            "answer_type": index["answer_type"][kept],
        }
        columns["vocabulary"] = np.array(vocabulary.answers)
        if name == "test":
            columns["member"] = index["member"][kept - begin]
        where = {
            "image": index["pairs"][kept, :1],
            "text": index["pairs"][kept, 1:],
            "fused": kept[:, None],
        }
        y = {
            "answer": answer[kept],
            "score": np.where(answer[kept] >= 0, TRAINING[count[kept]], 0).astype(np.float32),
        }
        ids = index["question_id"][kept], index["image_id"][kept]
        splits[name] = CachedExamples(features, where, y, *ids, columns, varied=name == "train")
        without = {
            "without_label": int((~labelled[rows]).sum()),
            "without_image": int((~readable[rows]).sum()),
        }
        sizes[name] = {"questions": len(kept), "of": len(rows), **without}
    return splits, sizes


def said(sizes: Mapping[str, Mapping[str, int]], vocabulary: Vocabulary, rule: str) -> str:
    """The line about what is left out."""
    parts = [f"{name} {size['without_label']:,} of {size['of']:,}" for name, size in sizes.items()]
    missing = [
        f"{name} {size['without_image']:,}" for name, size in sizes.items() if size["without_image"]
    ]
    return (
        f"vqa_vs: vocabulary {rule} has {len(vocabulary):,} answers; questions without any of them: {', '.join(parts)}: left out "
        "of training, scored in val and test"
        + (f"; left out for want of their image: {', '.join(missing)}" if missing else "")
    )


def answers_of(answers: Interned, vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """Ten answers of [n] questions -> int16 [n, 10] the distinct ones that are in the vocabulary,
    in order of first appearance, then -1; int8 [n, 10] how many people gave each, then 0."""
    label, (count, first) = answers.look_up(vocabulary.index), counts_of(answers)
    kept = first & (label >= 0)
    order = np.argsort(~kept, axis=1, kind="stable")
    label, count = np.where(kept, label, -1), np.where(kept, count, 0)
    return tuple(
        np.take_along_axis(part, order, axis=1).astype(kind)
        for part, kind in ((label, np.int16), (count, np.int8))
    )


def baseline(splits: Mapping[str, CachedExamples]) -> dict[str, float]:
    """Test scores of the most frequent training answer, by soft score, given to every question."""
    y = splits["train"].y
    most = np.bincount(y["answer"][y["answer"] >= 0], y["score"][y["answer"] >= 0]).argmax()
    test = splits["test"].columns
    n = len(test["answer"])
    made = {
        "product_top": np.full((n, 1), most),
        "product_answer_log_prob": np.zeros((n, 10)),
        "product_logsumexp": np.zeros(n),
    }
    found = metrics_of({**test, **made, "product_entropy": np.zeros(n)})
    return {
        name: value
        for name, value in found.items()
        if name not in ("nll", "entropy") and np.isfinite(value)
    }
