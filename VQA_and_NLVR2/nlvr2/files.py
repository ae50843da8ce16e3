"""NLVR2 as its authors publish it: JSON lines of sentences about two photographs, and the
photographs.

    train.json   dev.json   test1.json   balanced/{balanced,unbalanced}_{dev,test1}.json  (or .gz)
    images/train/<directory>/<split>-<set>-<pair>-img{0,1}.png   images/dev/   images/test1/
        or all of them in one folder

An identifier is <split>-<set>-<pair>-<sentence>. Image 0 is the left one.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np

from i2m2.errors import DataError, SettingsError
from i2m2.reading.paths import files_below
from VQA_and_NLVR2.inputs.json_files import Source, open_text
from VQA_and_NLVR2.inputs.picture_files import by_name, one_of
from VQA_and_NLVR2.inputs.records import (
    BAD_RECORD,
    Interned,
    Interner,
    bad_record,
    check_ids,
    column,
)

LABELS = {"False": 0, "True": 1}
SUBSETS = ("balanced", "unbalanced")
SPLITS = ("train", "dev", "test1")


class Sizes(NamedTuple):
    """Of a file."""

    examples: int
    pairs: int | None = None  # of images
    true: int | None = None  # examples


PUBLISHED = {
    "train": Sizes(86_373),
    "dev": Sizes(6_982, 4_051, 3_551),
    "test1": Sizes(6_967, 4_041, 3_558),
    "test2": Sizes(6_970, 4_074, 3_584),
    "balanced_dev": Sizes(2_300, 1_150, 1_150),
    "balanced_test1": Sizes(2_316, 1_158, 1_158),
    "unbalanced_dev": Sizes(3_562, 1_781, 1_802),
    "unbalanced_test1": Sizes(3_536, 1_768, 1_844),
}


@dataclass(frozen=True)
class Sentences:
    """Examples in the order of their file, as columns [n]."""

    identifier: np.ndarray  # str
    label: np.ndarray  # int8, 1 = True
    split: Interned  # first part of the identifier
    numbers: np.ndarray  # int32 [n, 3]: set, pair and sentence, the rest of the identifier
    directory: np.ndarray  # int16, which only the training file has; else -1
    sentence: Interned
    urls: Interned  # [n, 2], left and right

    def __len__(self) -> int:
        return len(self.identifier)

    def take(self, rows: np.ndarray) -> Sentences:
        """Some of the examples, by positions or mask."""
        return Sentences(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def pair(self) -> np.ndarray:
        """int64 [n]: the same number for the same two photographs, by the identifiers."""
        return _number(np.column_stack([self.split.codes, self.numbers[:, :2]]))

    @property
    def group(self) -> np.ndarray:
        """int64 [n]: the same number for the same sentence about several pairs (identifiers without
        the pair)."""
        return _number(np.column_stack([self.split.codes, self.numbers[:, [0, 2]]]))


def _number(rows: np.ndarray) -> np.ndarray:
    return np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)


def read_nlvr2(source: Source | Path) -> Sentences:
    """Read a file of JSON lines. DataError names the line that is no example, or the identifier
    that occurs twice."""
    identifiers: list[str] = []
    label, numbers, directory = array("b"), array("i"), array("h")
    split, sentence, urls = Interner(), Interner(), Interner()
    with open_text(source) as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            record = None
            try:
                record = json.loads(text)
                name, *rest = record["identifier"].rsplit("-", 3)
                _check(record, rest)
                identifiers.append(record["identifier"])
                label.append(LABELS[record["label"]])
                numbers.extend(map(int, rest))
                directory.append(int(record.get("directory", -1)))
                split.add([name])
                sentence.add_text(record["sentence"])
                urls.add([record["left_url"], record["right_url"]])
            except BAD_RECORD as error:
                wanted = (
                    "{identifier, sentence, label: 'True' or 'False', left_url, right_url} "
                    "on one line"
                )
                where = f"{source}: line {line}"
                raise bad_record(where, record, "identifier", wanted, error) from error
    n, ids = len(identifiers), np.array(identifiers, str)
    check_ids(source, ids, "identifier")
    columns = split.finish(n), column(numbers, np.int32).reshape(n, 3), column(directory, np.int16)
    return Sentences(ids, column(label, np.int8), *columns, sentence.finish(n), urls.finish(n, 2))


def _check(record: dict[str, str], rest: list[str]) -> None:
    """ValueError if an identifier or a label is none; `rest`: the last three parts of the first."""
    identifier = record["identifier"]
    # Other scripts have digits, too.
    if len(rest) != 3 or not (identifier.isascii() and all(part.isdecimal() for part in rest)):
        raise ValueError(f"identifier {identifier!r} is not split-set-pair-sentence")
    if record["label"] not in LABELS:
        raise ValueError(f"label {record['label']!r} is neither 'True' nor 'False'")


def hold_out(
    sentences: Sentences, directories: Iterable[int], source: Source | Path
) -> tuple[Sentences, Sentences]:
    """-> training examples, read from `source`, without those directories, and those of them: whole
    directories, since pairs and sentences recur inside.

    SettingsError if one of them has no examples, or no other is left.
    """
    directories = sorted(set(directories))
    present = np.unique(sentences.directory)
    if present[0] < 0:
        without = sentences.identifier[sentences.directory < 0]
        raise DataError(
            f"{source}: {len(without):,} examples have no directory, first {without[0]}, which all "
            "of NLVR2's train.json have; get the file again, or set data.hold_out to null"
        )
    absent = [number for number in directories if number not in present]
    if absent or not directories or len(directories) == len(present):
        raise SettingsError(
            f"data.hold_out {directories} cannot be held out: {source} has {len(present)} "
            f"directories, {present[0]}..{present[-1]}; name some of them"
        )
    held = np.isin(sentences.directory, directories)
    return sentences.take(~held), sentences.take(held)


def balance(sentences: Sentences) -> tuple[np.ndarray, np.ndarray]:
    """-> bool [n] balanced, bool [n] unbalanced: whether the same two URLs occur again, with
    another label or always with this one.

    The rule of the published subsets; a pair that occurs once is in neither.
    """
    _, pair, size = np.unique(sentences.urls.codes, axis=0, return_inverse=True, return_counts=True)
    pair = pair.reshape(-1)
    true = np.bincount(pair, sentences.label, len(size))
    mixed = (true > 0) & (true < size)
    return (mixed & (size > 1))[pair], (~mixed & (size > 1))[pair]


def subset(sentences: Sentences, source: Source | Path) -> np.ndarray:
    """bool [n]: which examples a published subset has (balanced_dev.json ...). DataError if it has
    others."""
    listed = read_nlvr2(source).identifier
    strangers = listed[~np.isin(listed, sentences.identifier)]
    if len(strangers):
        raise DataError(
            f"{source}: {len(strangers):,} of {len(listed):,} examples are not in the split, "
            f"first {strangers[0]}"
        )
    return np.isin(sentences.identifier, listed)


def image_folder(root: Path) -> Path:
    """Below which photographs are looked for: `root`/images, or `root`, if that has no images."""
    return root / "images" if (root / "images").is_dir() else root


def image_path(root: Path, sentences: Sentences) -> tuple[list[Path | None], list[Path | None]]:
    """Files of the left and of the right photographs [n], None where there is none. Every folder
    below `image_folder` is listed once: names say the split, so that any layout will do. Of several
    of one name that in the published place is taken.

    DataError if there is no photograph at all, or several of one name in other places.
    """
    root = image_folder(root)
    files = by_name(files_below(root))
    if not any(name.endswith(("-img0", "-img1")) for name in files):
        raise DataError(
            f"{root}: no photograph *-img0.png; they are had from NLVR2's authors, "
            "see VQA_and_NLVR2/README.md, section Data"
        )
    stems = [identifier.rsplit("-", 1)[0] for identifier in sentences.identifier.tolist()]
    rows = list(zip(stems, sentences.split.texts(), sentences.directory.tolist(), strict=True))

    def find(name: str, split: str, directory: int) -> Path | None:
        found = files.get(name, (None,))
        if len(found) == 1:
            return found[0]
        inside = [root / split / str(directory)] if directory >= 0 else []
        return one_of(found, [*inside, root / split], ".png")

    left, right = ([find(f"{stem}-img{side}", *of) for stem, *of in rows] for side in (0, 1))
    return left, right


def coverage(sentences: Sentences, left: list[Path | None], right: list[Path | None]) -> list[str]:
    """A line per split: pairs with both photographs, what is missing, and the first that is."""
    sides = [[path is not None for path in side] for side in (left, right)]
    present = np.array(sides, bool).T.reshape(-1, 2)
    whole = present.all(axis=1)
    lines = []
    for code, name in enumerate(sentences.split.strings):
        rows = np.flatnonzero(sentences.split.codes == code)
        if not len(rows):
            continue
        once = rows[np.unique(sentences.pair[rows], return_index=True)[1]]  # a row of each pair
        examples = f"{whole[rows].sum():,} of {len(rows):,} examples"
        pairs = f"{whole[once].sum():,} of {len(once):,} image pairs"
        line = f"{name}: {examples} and {pairs} are complete"
        if not whole[rows].all():
            first = rows[~whole[rows]][0]
            stem = sentences.identifier[first].rsplit("-", 1)[0]
            photograph = f"{stem}-img{present[first].argmin()}.png"
            line += f"; {(~present[once]).sum():,} photographs missing, first {photograph}"
        lines.append(line)
    return lines
