"""Print what the annotation files hold, beside what is published of them: sizes, answers, labels,
OOD sets, images.

python -m VQA_and_NLVR2.audit --dataset vqa_vs --data data/vqa_vs
python -m VQA_and_NLVR2.audit --dataset nlvr2 --data data/nlvr2 --images photographs

--data takes the whole data set, or a folder of some files. Photographs are looked for beside them,
as published, or in the folder that --images names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from i2m2.errors import CommandParser, DataError, run_command
from VQA_and_NLVR2.inputs.json_files import files_with, json_files
from VQA_and_NLVR2.nlvr2 import files as nlvr2_files
from VQA_and_NLVR2.nlvr2.files import Sentences, read_nlvr2
from VQA_and_NLVR2.vqa_vs.annotations import (
    ANSWER_TYPES,
    Annotations,
    Questions,
    VqaSplit,
    join,
    read_annotations,
    read_questions,
)
from VQA_and_NLVR2.vqa_vs.answers import (
    MINIMUM,
    RULES,
    Vocabulary,
    count_answers,
    soft_labels,
    vocabulary_line,
)
from VQA_and_NLVR2.vqa_vs.files import (
    OOD_SETS,
    PUBLISHED,
    VqaVs,
    count_vocabulary,
    has_folders,
    read_vqa_vs,
)
from VQA_and_NLVR2.vqa_vs.images import PARTS, image_path, missing_images
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
    args = _parser().parse_args(argv)
    if not args.data.is_dir():
        raise DataError(f"{args.data}: no such folder")
    audit = audit_vqa if args.dataset == "vqa_vs" else audit_nlvr2
    beside = any((args.data / name).is_dir() for name in ("images", *PARTS))
    images = args.images or (args.data if beside else None)
    for line in audit(args.data, images):
        print(line)
    if images is None:
        print("images: not looked at, since none are beside the files; name them with --images")


def _parser() -> CommandParser:
    parser = CommandParser("python -m VQA_and_NLVR2.audit", __doc__)
    about = "data set that the files are of"
    parser.add_argument("--dataset", choices=("vqa_vs", "nlvr2"), required=True, help=about)
    about = "folder of the annotation files"
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help=about)
    about = "folder of train2014 and val2014, or of NLVR2's photographs"
    parser.add_argument("--images", type=Path, metavar="DIR", help=about)
    return parser


def _is_synthetic(root: Path) -> bool:
    from i2m2.training.data import read_description  # here: that module needs torch

    return (root / "dataset.json").is_file() and read_description(root)["synthetic"]


def audit_vqa(root: Path, images: Path | None = None) -> Iterator[str]:
    """Lines about VQA-VS: of the whole data set where `root` has its folders, else of the files in
    `root` itself."""
    synthetic = _is_synthetic(root)
    if synthetic:
        yield SYNTHETIC
    if not has_folders(root):
        answers = files_with(root, "question_id", "answers")
        questions = files_with(root, "question_id", "question")
        if answers or questions:
            yield from _audit_slices(answers, questions, images)
            return
    data = read_vqa_vs(root)
    for name, split in data.splits.items():
        published = None if synthetic else PUBLISHED[name]
        yield from _describe(name + _against(len(split), published), split)
    yield from _overlap(data, synthetic)
    for rule in RULES:
        yield from _vocabulary(data, rule, root, synthetic)
    if images is not None:
        every = np.unique(np.concatenate([split.image_id for split in data.splits.values()]))
        yield missing_images(every, image_path(images, every))


def _vocabulary(data: VqaVs, rule: str, root: Path, synthetic: bool) -> Iterator[str]:
    try:
        vocabulary = count_vocabulary(data, rule, root)
    except DataError as error:
        yield f"vocabulary {rule}: cannot be counted: {error}"
        return
    size = f"vocabulary {rule}: {len(vocabulary):,} answers"
    yield size if synthetic else vocabulary_line(vocabulary, rule)
    for name, split in data.splits.items():
        yield f"  {name}: {_labels(split, vocabulary)}"


def _audit_slices(answers: list[Path], questions: list[Path], images: Path | None) -> Iterator[str]:
    """Each file of answers with the file of questions that has the same ids."""
    read = [read_questions(path) for path in questions]
    ids = {frozenset(one.question_id.tolist()): one for one in read}
    for path in answers:
        annotations = read_annotations(path)
        asked = ids.pop(frozenset(annotations.question_id.tolist()), None)
        if asked is None:
            raise DataError(
                f"{path}: no file of questions beside it has the same "
                f"{len(annotations.question_id):,} question_ids"
            )
        yield from _audit_slice(path, asked, annotations, images)
    for one in ids.values():
        questions_alone = f"{len(one.question_id):,} questions without a file of answers"
        yield f"{Path(one.source).name}: {questions_alone}"


def _audit_slice(
    path: Path, asked: Questions, annotations: Annotations, images: Path | None
) -> Iterator[str]:
    split = join(asked, annotations)
    with_file = f"{path.name} with {Path(asked.source).name}"
    yield from _describe(f"{with_file}: {len(split):,} questions", split)
    counts = count_answers(split.majority.texts())
    frequent = [answer for answer, number in counts.items() if number >= MINIMUM]
    yield (
        f"  vocabulary of this file alone: {len(frequent):,} answers; "
        f"{len(counts):,} distinct normalised majority answers"
    )
    yield f"  {_labels(split, Vocabulary(tuple(frequent)))}"
    if images is not None:
        yield f"  {missing_images(split.image_id, image_path(images, split.image_id))}"


def _against(n: int, published: int | None) -> str:
    number = f": {n:,} questions"
    if published is None:
        return number
    same = ", as published" if n == published else f"; PUBLISHED: {published:,}"
    return number + same


def _describe(title: str, split: VqaSplit) -> Iterator[str]:
    types = np.bincount(split.answer_type, minlength=len(ANSWER_TYPES))
    by_type = ", ".join(f"{n} {c:,}" for n, c in zip(ANSWER_TYPES, types, strict=True))
    words = np.array([len(text.split()) for text in split.question.strings])[split.question.codes]
    distinct = len(np.unique(split.question.codes)) / len(split)
    bound = upper_bounds(split.answers)
    best = percent({"all": float(bound.mean()), **score_types(bound, split.answer_type)})
    best_scores = ", ".join(f"{name} {value:.2f}" for name, value in best.items())
    yield title
    yield f"  {len(np.unique(split.image_id)):,} images; {by_type}"
    yield (
        f"  questions: {distinct:.0%} distinct, {words.mean():.1f} words on average, "
        f"{words.max()} at most"
    )
    yield (
        f"  distinct raw answers: {len(np.unique(split.answers.codes)):,}; "
        f"best official score there could be: {best_scores}"
    )


def _labels(split: VqaSplit, vocabulary: Vocabulary) -> str:
    size = np.diff(soft_labels(split.answers, vocabulary).offsets)
    none = int((size == 0).sum())
    return (
        f"questions without a label: {none:,} of {len(split):,} ({none / len(split):.1%}); "
        f"{size.mean():.2f} labels a question"
    )


def _overlap(data: VqaVs, synthetic: bool) -> Iterator[str]:
    size = data.member.sum(axis=0)
    yield f"{'OOD sets':<14}" + "".join(f"{name:>9}" for name in OOD_SETS)
    yield f"{'  questions':<14}" + "".join(f"{n:>9,}" for n in size)
    if not synthetic:
        published = [PUBLISHED[name] for name in OOD_SETS]
        yield f"{'  published':<14}" + "".join(f"{n:>9,}" for n in published)
    member = data.member.astype(np.float64)
    share = 100 * (member.T @ member) / np.maximum(size, 1)[:, None]
    yield "  % of the row's that are also in the column's"
    for name, row in zip(OOD_SETS, share, strict=True):
        yield f"  {name:<12}" + "".join(f"{value:>9.0f}" for value in row)
    if not synthetic:
        off = np.abs(share - np.array(OVERLAP.split(), float).reshape(share.shape)).max()
        about = "largest difference from the published table, which is rounded to whole per cent"
        yield f"  {about}: {off:.1f}"


def audit_nlvr2(root: Path, images: Path | None = None) -> Iterator[str]:
    """Lines about every file of NLVR2 sentences in `root` and in its folders `balanced` and
    `unbalanced`."""
    synthetic = _is_synthetic(root)
    if synthetic:
        yield SYNTHETIC
    folders = [root, *(root / name for name in nlvr2_files.SUBSETS if (root / name).is_dir())]
    paths = [path for folder in folders for path in files_with(folder, "identifier", "sentence")]
    if not paths:
        raise DataError(f"{root}: holds no file of NLVR2 sentences (JSON lines, .json or .json.gz)")
    yield from _not_audited(folders, paths)
    for path in paths:
        sentences = read_nlvr2(path)
        name = path.name.partition(".json")[0]
        published = None if synthetic else nlvr2_files.PUBLISHED.get(name)
        yield f"{path.name}: {_sizes(sentences, published)}"
        balanced, unbalanced = nlvr2_files.balance(sentences)
        words = [len(text.split()) for text in sentences.sentence.strings]
        groups = len(np.unique(sentences.group))
        yield (
            f"  {groups:,} groups (the same sentence about several pairs); "
            f"the longest sentence has {max(words)} words"
        )
        yield (
            f"  by the pairs' URLs: {balanced.sum():,} examples balanced, "
            f"{unbalanced.sum():,} unbalanced"
        )
        if images is not None:
            for line in nlvr2_files.coverage(sentences, *nlvr2_files.image_path(images, sentences)):
                yield f"  {line}"


def _not_audited(folders: Sequence[Path], paths: Sequence[Path]) -> Iterator[str]:
    """Lines about files that hold no sentences, and splits that are not there. DataError for a file
    that has a split's name and is none."""
    named = {path.name.partition(".json")[0] for path in paths}
    for path in (path for folder in folders for path in json_files(folder) if path not in paths):
        if path.name.partition(".json")[0] in nlvr2_files.PUBLISHED:
            raise DataError(f"{path}: holds no NLVR2 sentences, one a line; get the file again")
        if path.name != "dataset.json":
            yield f"{path.name}: holds no NLVR2 sentences, left out"
    for name in nlvr2_files.SPLITS:
        if name not in named:
            yield f"{name}: MISSING, no {name}.json or {name}.json.gz in {folders[0]}"


def _sizes(sentences: Sentences, published: nlvr2_files.Sizes | None) -> str:
    pairs, true = len(np.unique(sentences.pair)), int(sentences.label.sum())
    found = (len(sentences), pairs, true)
    line = "{:,} examples, {:,} image pairs, {:,} true".format(*found)
    if published is None:
        return line
    if all(wanted in (None, number) for number, wanted in zip(found, published, strict=True)):
        return f"{line}, as published"
    wanted = " / ".join(f"{number:,}" for number in published if number)
    return f"{line}; PUBLISHED: {wanted}"


if __name__ == "__main__":
    run_command(main)
