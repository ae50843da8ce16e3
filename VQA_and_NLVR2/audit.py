"""What the annotation files hold, beside what is published of them: sizes, answers, labels, OOD
sets, images.

python -m VQA_and_NLVR2.audit --dataset vqa_vs --data data/vqa_vs                    # the whole, or a folder of some files
python -m VQA_and_NLVR2.audit --dataset nlvr2 --data data/nlvr2 --images data/nlvr2  # and which photographs are there
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from i2m2.errors import CommandParser, DataError, run_command
from i2m2.training.data import read_description
from VQA_and_NLVR2.inputs.json_files import files_with
from VQA_and_NLVR2.nlvr2 import files as nlvr2_files
from VQA_and_NLVR2.nlvr2.files import Sentences, read_nlvr2
from VQA_and_NLVR2.vqa_vs import files as vqa_files
from VQA_and_NLVR2.vqa_vs.answers import (
    MINIMUM,
    RULES,
    Vocabulary,
    count_answers,
    soft_labels,
    vocabulary_line,
)
from VQA_and_NLVR2.vqa_vs.files import ANSWER_TYPES, OOD_SETS, VqaSplit, VqaVs, read_vqa_vs
from VQA_and_NLVR2.vqa_vs.scores import percent, score_types, upper_bounds

SYNTHETIC = "SYNTHETIC data, by its dataset.json: not compared with what is published"
# Share (%) of the questions of the row's OOD set that are in the column's too, as published.
OVERLAP = """
    100 41 15 22 79 72 56 18  8
    36 100 29 39 54 54 34 35 13
    25 57 100 48 38 42 32 36 23
    29 61 39 100 40 43 37 33 28
    49 39 14 18 100 84 45 19  8
    40 35 14 18 75 100 41 19  9
    49 34 16 24 63 64 100 23 15
    24 56 30 33 42 47 37 100 38
    20 38 35 53 32 40 45 72 100
"""


def main(argv: list[str] | None = None) -> None:
    """Print the audit. DataError names what is wrong with the files."""
    parser = CommandParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", choices=("vqa_vs", "nlvr2"), required=True)
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="folder of the annotation files"
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder of train2014 and val2014, or of NLVR2's photographs",
    )
    args = parser.parse_args(argv)
    if not args.data.is_dir():
        raise DataError(f"{args.data}: no such folder")
    for line in (audit_vqa if args.dataset == "vqa_vs" else audit_nlvr2)(args.data, args.images):
        print(line)


def _is_synthetic(root: Path) -> bool:
    return (root / "dataset.json").is_file() and read_description(root)["synthetic"]


def audit_vqa(root: Path, images: Path | None = None) -> Iterator[str]:
    """Lines about VQA-VS: of the whole data set where `root` has its folders, else of the files in
    `root` itself."""
    synthetic = _is_synthetic(root)
    if synthetic:
        yield SYNTHETIC
    if not vqa_files.has_folders(root):
        answers, questions = (
            files_with(root, "question_id", "answers"),
            files_with(root, "question_id", "question"),
        )
        if answers or questions:
            yield from _audit_slices(answers, questions, images)
            return
    data = read_vqa_vs(root)
    for name, split in data.splits.items():
        yield from _describe(
            name + _against(len(split), None if synthetic else vqa_files.PUBLISHED[name]), split
        )
    yield from _overlap(data, synthetic)
    for rule in RULES:
        try:
            vocabulary = vqa_files.count_vocabulary(data, rule, root)
        except DataError as error:
            yield f"vocabulary {rule}: cannot be counted: {error}"
            continue
        yield (
            f"vocabulary {rule}: {len(vocabulary):,} answers"
            if synthetic
            else vocabulary_line(vocabulary, rule)
        )
        for name, split in data.splits.items():
            yield f"  {name}: {_labels(split, vocabulary)}"
    if images is not None:
        every = np.unique(np.concatenate([split.image_id for split in data.splits.values()]))
        yield vqa_files.missing_images(every, vqa_files.find_images(images, every) >= 0)


def _audit_slices(answers: list[Path], questions: list[Path], images: Path | None) -> Iterator[str]:
    """Each file of answers with the file of questions that has the same ids."""
    read = [vqa_files.read_questions(path) for path in questions]
    ids = {frozenset(one.question_id.tolist()): one for one in read}
    for path in answers:
        annotations = vqa_files.read_annotations(path)
        asked = ids.pop(frozenset(annotations.question_id.tolist()), None)
        if asked is None:
            raise DataError(
                f"{path}: no file of questions beside it has the same {len(annotations.question_id):,} question_ids"
            )
        split = vqa_files.join(asked, annotations)
        yield from _describe(
            f"{path.name} with {Path(asked.source).name}: {len(split):,} questions", split
        )
        majority = split.majority.texts()
        counts = count_answers(majority)
        vocabulary = Vocabulary(
            tuple(answer for answer, number in counts.items() if number >= MINIMUM)
        )
        yield f"  vocabulary of this file alone: {len(vocabulary):,} answers; {len(counts):,} distinct normalised majority answers"
        yield f"  {_labels(split, vocabulary)}"
        if images is not None:
            yield f"  {vqa_files.missing_images(split.image_id, vqa_files.find_images(images, split.image_id) >= 0)}"
    for one in ids.values():
        yield f"{Path(one.source).name}: {len(one.question_id):,} questions without a file of answers"


def _against(n: int, published: int | None) -> str:
    what = f": {n:,} questions"
    return (
        what
        if published is None
        else f"{what}, as published"
        if n == published
        else f"{what}; PUBLISHED: {published:,}"
    )


def _describe(title: str, split: VqaSplit) -> Iterator[str]:
    types = np.bincount(split.answer_type, minlength=len(ANSWER_TYPES))
    words = np.array([len(text.split()) for text in split.question.strings])[split.question.codes]
    distinct = len(np.unique(split.question.codes)) / len(split)
    yield title
    yield f"  {len(np.unique(split.image_id)):,} images; " + ", ".join(
        f"{n} {c:,}" for n, c in zip(ANSWER_TYPES, types, strict=True)
    )
    yield f"  questions: {distinct:.0%} distinct, {words.mean():.1f} words on average, {words.max()} at most"
    bound = upper_bounds(split.answers)
    best = percent({"all": float(bound.mean()), **score_types(bound, split.answer_type)})
    yield (
        f"  distinct raw answers: {len(np.unique(split.answers.codes)):,}; best official score there could be: "
        + ", ".join(f"{name} {value:.2f}" for name, value in best.items())
    )


def _labels(split: VqaSplit, vocabulary: Vocabulary) -> str:
    size = np.diff(soft_labels(split.answers, vocabulary).offsets)
    none = int((size == 0).sum())
    return f"questions without a label: {none:,} of {len(split):,} ({none / len(split):.1%}); {size.mean():.2f} labels a question"


def _overlap(data: VqaVs, synthetic: bool) -> Iterator[str]:
    size = data.member.sum(axis=0)
    yield "OOD sets" + " " * 6 + "".join(f"{name:>9}" for name in OOD_SETS)
    yield "  questions " + " " * 2 + "".join(f"{n:>9,}" for n in size)
    if not synthetic:
        yield (
            "  published "
            + " " * 2
            + "".join(f"{vqa_files.PUBLISHED[name]:>9,}" for name in OOD_SETS)
        )
    member = data.member.astype(np.float64)
    share = 100 * (member.T @ member) / np.maximum(size, 1)[:, None]
    yield "  % of the row's that are also in the column's"
    for name, row in zip(OOD_SETS, share, strict=True):
        yield f"  {name:<12}" + "".join(f"{value:>9.0f}" for value in row)
    if not synthetic:
        off = np.abs(share - np.array(OVERLAP.split(), float).reshape(share.shape)).max()
        yield f"  largest difference from the published table, which is rounded to whole per cent: {off:.1f}"


def audit_nlvr2(root: Path, images: Path | None = None) -> Iterator[str]:
    """Lines about every file of NLVR2 sentences in `root` and in its folders `balanced` and
    `unbalanced`."""
    synthetic = _is_synthetic(root)
    if synthetic:
        yield SYNTHETIC
    folders = [
        folder for folder in (root, root / "balanced", root / "unbalanced") if folder.is_dir()
    ]
    paths = [path for folder in folders for path in files_with(folder, "identifier", "sentence")]
    if not paths:
        raise DataError(f"{root}: holds no file of NLVR2 sentences (JSON lines, .json or .json.gz)")
    for path in paths:
        sentences = read_nlvr2(path)
        name = path.name.partition(".json")[0]
        yield f"{path.name}: " + _sizes(
            sentences, None if synthetic else nlvr2_files.PUBLISHED.get(name)
        )
        balanced, unbalanced = nlvr2_files.balance(sentences)
        words = [len(text.split()) for text in sentences.sentence.strings]
        groups = len(np.unique(sentences.group))
        yield f"  {groups:,} groups (the same sentence about several pairs); the longest sentence has {max(words)} words"
        yield f"  by the pairs' URLs: {balanced.sum():,} examples balanced, {unbalanced.sum():,} unbalanced"
        if images is not None:
            for line in nlvr2_files.coverage(sentences, *nlvr2_files.image_path(images, sentences)):
                yield f"  {line}"


def _sizes(sentences: Sentences, published: tuple[int, int | None, int | None] | None) -> str:
    found = len(sentences), len(np.unique(sentences.pair)), int(sentences.label.sum())
    line = "{:,} examples, {:,} image pairs, {:,} true".format(*found)
    if published is None:
        return line
    same = all(wanted in (None, number) for number, wanted in zip(found, published, strict=True))
    return (
        f"{line}, as published"
        if same
        else f"{line}; PUBLISHED: {published[0]:,}"
        + "".join(f" / {number:,}" for number in published[1:] if number)
    )


if __name__ == "__main__":
    run_command(main)
