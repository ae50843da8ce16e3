"""Which recordings the parts of AV-MNIST may use, and which of them a row gets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from AVMNIST_and_MIMIC.avmnist.preparation.audio import Recording
from AVMNIST_and_MIMIC.avmnist.preparation.rules import PARTS, Rules
from i2m2.errors import DataError, SettingsError

Positions = dict[str, list[int]]  # part -> positions in a list of recordings
DIGITS = frozenset(range(10))
FSDD_TAKES = 50  # of a digit by a speaker, of which `test_takes` and `val_takes` are shares


class Choice(NamedTuple):
    """The recordings of the chosen speakers, and for every part their positions in that list."""

    recordings: list[Recording]
    positions: Positions
    by_order: str = ""  # why takes are held out by order, if the named ones cannot be


def choose(recordings: Sequence[Recording], rules: Rules) -> Choice:
    """By the speakers and the split that the rules name."""
    speakers = sorted({recording.speaker for recording in recordings})
    for key in ("speakers", "test_speakers", "val_speakers"):
        if unknown := [name for name in getattr(rules, key) if name not in speakers]:
            raise SettingsError(
                f"{key}: there is no speaker {unknown[0]!r}; "
                f"choose from {', '.join(speakers)}, or `all`"
            )
    wanted = rules.speakers or speakers
    chosen = [recording for recording in recordings if recording.speaker in wanted]
    if lacking := DIGITS - {recording.digit for recording in chosen}:
        raise DataError(
            f"there is no recording of digit {min(lacking)}; every digit 0..9 needs some. "
            "Complete the folder given as --speech"
        )
    if rules.split == "take":
        return Choice(chosen, *split_by_take(chosen, rules.test_takes, rules.val_takes))
    speakers = sorted({recording.speaker for recording in chosen})
    if len(speakers) < len(PARTS):
        raise SettingsError(
            f"--split speaker needs three speakers, one each for train, val and test, not "
            f"{len(speakers)} ({', '.join(speakers)}); add recordings of others, or give "
            "--split take"
        )
    not_val = [name for name in speakers if name not in rules.val_speakers]
    test = rules.test_speakers or tuple(not_val[-1:])
    not_test = [name for name in speakers if name not in test]
    val = rules.val_speakers or tuple(not_test[-1:])
    if both := set(test) & set(val):
        raise SettingsError(f"speaker {min(both)!r} is named for both test and validation")
    return Choice(chosen, split_by_speaker(chosen, test, val))


def split_by_take(
    recordings: Sequence[Recording], test_takes: Sequence[int], val_takes: Sequence[int]
) -> tuple[Positions, str]:
    """Test and validation hold out these takes of every speaker and digit -> positions, ''.

    Without `val_takes` validation shares the training recordings (as published). Where some digit
    lacks the named takes, the same share of its takes is held out by order: first for test, then
    for validation, at least one each -> positions, why.
    """
    by_take = dict.fromkeys(val_takes, "val") | dict.fromkeys(test_takes, "test")
    named = _positions(
        recordings, lambda recording: by_take.get(recording.take, "train"), bool(val_takes)
    )
    lacking = {part: DIGITS - _digits(recordings, places) for part, places in named.items()}
    part, digits = next(((part, digits) for part, digits in lacking.items() if digits), ("", {}))
    if not digits:
        return named, ""
    why = f"by the takes named digit {min(digits)} has no recording for {part}"
    part_of = {}
    for digit in range(10):
        part_of |= _parts_by_order(recordings, digit, len(test_takes), len(val_takes))
    return _positions(recordings, lambda recording: part_of[recording.name], bool(val_takes)), why


def _parts_by_order(
    recordings: Sequence[Recording], digit: int, test_takes: int, val_takes: int
) -> dict[str, str]:
    """{name of a recording of the digit: its part}."""
    ordered = sorted(
        (recording for recording in recordings if recording.digit == digit),
        key=lambda recording: (recording.take, recording.speaker),
    )
    count = len(ordered)
    tests, vals = (
        max(1, round(count * takes / FSDD_TAKES)) if takes else 0
        for takes in (test_takes, val_takes)
    )
    if count <= tests + vals:
        raise DataError(
            f"digit {digit} has {count} recording{'s' * (count != 1)}, "
            f"at least {tests + vals + 1} are needed to keep training, validation and test apart; "
            "add recordings, or change --test-takes and --val-takes"
        )
    parts = ["test"] * tests + ["val"] * vals + ["train"] * (count - tests - vals)
    return {recording.name: part for recording, part in zip(ordered, parts, strict=True)}


def split_by_speaker(
    recordings: Sequence[Recording], test: Sequence[str], val: Sequence[str]
) -> Positions:
    """The speakers `test` and `val` are heard in that part only."""
    by_speaker = dict.fromkeys(val, "val") | dict.fromkeys(test, "test")
    parts = _positions(recordings, lambda recording: by_speaker.get(recording.speaker, "train"))
    for part, places in parts.items():
        if lacking := DIGITS - _digits(recordings, places):
            raise DataError(
                f"the {part} speakers have no recording of digit {min(lacking)}; "
                "choose others (--test-speakers, --val-speakers)"
            )
    return parts


def refuse_shared(what: str, parts: Mapping[str, Iterable[tuple[str, np.ndarray]]]) -> None:
    """DataError if something of one part, by content, is in another, under whatever name.

    `parts`: {part: its (name, content)}. Silence and blank images give nothing away.
    """
    first: dict[bytes, tuple[str, str]] = {}
    shared = []
    for part, members in parts.items():
        for name, content in members:
            if content.any():
                digest = hashlib.sha256(content.tobytes()).digest()
                other, other_name = first.setdefault(digest, (part, name))
                if other != part:
                    shared.append(f"{other_name} of {other} is {name} of {part}")
    if shared:
        raise DataError(
            f"{len(shared):,} {what} are in two parts, where a model would know them again: "
            f"{shared[0]}; give different files, or remove one of the two"
        )


def _positions(
    recordings: Sequence[Recording],
    part_of: Callable[[Recording], str],
    separate_validation: bool = True,
) -> Positions:
    """By `part_of`; without separate validation its recordings are those of training."""
    positions: Positions = {part: [] for part in PARTS}
    for i, recording in enumerate(recordings):
        positions[part_of(recording)].append(i)
    return positions if separate_validation else positions | {"val": positions["train"]}


def _digits(recordings: Sequence[Recording], places: Sequence[int]) -> set[int]:
    return {recordings[i].digit for i in places}


def assign(
    labels: np.ndarray,
    recordings: Sequence[Recording],
    places: Sequence[int],
    rng: np.random.Generator,
) -> np.ndarray:
    """labels [N] -> positions in `recordings` [N].

    Rows walk through their digit's recordings of the part, in a seeded order, again and again.
    """
    chosen = np.empty(len(labels), np.int64)
    for digit in range(10):
        of_digit = rng.permutation([i for i in places if recordings[i].digit == digit])
        rows = np.flatnonzero(labels == digit)
        chosen[rows] = of_digit[np.arange(len(rows)) % len(of_digit)]
    return chosen
