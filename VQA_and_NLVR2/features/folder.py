"""The folder of an extraction while it is made: its parts, who is at work on them, and what is
still to be done.

Any number of processes may work on a folder: each takes a part that nobody is at work on, and what
a killed process has not written another one does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from i2m2.errors import DataError, SettingsError
from i2m2.files import is_vacant, lock, write_atomic, write_json
from i2m2.reading.arrays import open_array
from VQA_and_NLVR2.features.plan import (
    AGAIN,
    LAYOUT,
    FeatureFacts,
    Plan,
    Values,
    differences,
    key_of,
    read_facts,
)
from VQA_and_NLVR2.features.source_files import identities, picture_bytes


def part_file(folder: Path, k: int) -> Path:
    """The features of part k."""
    return folder / "parts" / f"{k:05d}.npz"


def part_lock(folder: Path, k: int) -> Path:
    """Held by the process that is at work on part k; not in the folder of the parts, which goes
    when all is put together."""
    return folder / ".locks" / f"{k:05d}"


def folder_lock(folder: Path) -> Path:
    """Held by the process that begins a folder or puts its parts together."""
    return folder / ".lock"


@contextmanager
def claim(path: Path, wait: bool = False) -> Iterator[bool]:
    """Whether this process alone holds `path` meanwhile. The system frees it when a process ends,
    however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        yield lock(file, wait) is not False


def refuse_foreign(folder: Path) -> None:
    """SettingsError for a folder that holds something else than an extraction, which begins with
    index.npz: its files could be overwritten, and `parts` removed."""
    own = is_vacant(folder) or (folder / "features.json").exists()
    if not own and not (folder.is_dir() and set(folder.glob("[!.]*")) == {folder / "index.npz"}):
        raise SettingsError(
            f"{folder} exists and is neither an empty folder nor one of features; "
            "empty it or give another --features.dir"
        )


def begin(
    folder: Path,
    plan: Plan,
    made_of: Values,
    settings: Values,
    files: Mapping[str, Path],
    paths: Sequence[Path | None],
    shard: int,
) -> FeatureFacts:
    """features.json, made if it is not there. DataError if it is of something else.

    Where only the data set's own arrays have changed these are written again, and where image files
    have been exchanged the parts that they belong to are to be made again: `todo`. Settings and
    files that differ and make the same features are added to those of before: `others`.
    """
    sizes = picture_bytes(paths)
    facts = read_facts(folder)
    if facts is None:
        facts = {"layout": LAYOUT, "complete": False, "key": key_of(made_of)}
        facts |= {"made_of": dict(made_of), "todo": None, "shard": shard}
        exchanged = np.empty(0, int)
    elif differing := differences(facts["made_of"], made_of):
        raise DataError(
            f"{folder} holds features of something else: {differing}; "
            "give another --features.dir, or delete it"
        )
    else:
        exchanged = np.flatnonzero(_read_sizes(folder, len(sizes)) != sizes)
    now = facts | {"about": dict(plan.about), "index": plan.index_fingerprint}
    given = {"settings": dict(settings), "files": identities(files)}
    if now["index"] != facts.get("index"):
        now |= given | {"others": []}
    elif not any(given.items() <= known.items() for known in (now, *now.get("others", []))):
        now["others"] = [*now.get("others", []), given]
    if len(exchanged):
        now |= _make_again(folder, facts, exchanged)
    if now != facts:
        if now["index"] != facts.get("index"):
            arrays = {"pairs": plan.pairs, **plan.index}
            write_atomic(folder / "index.npz", lambda path: np.savez(path, **arrays))
        write_json(folder / "features.json", now)
    if len(exchanged) or not (folder / "pictures.npy").exists():
        write_atomic(folder / "pictures.npy", lambda path: np.save(path, sizes))
    return now


def _make_again(folder: Path, facts: FeatureFacts, exchanged: np.ndarray) -> FeatureFacts:
    """Remove the parts of these images -> what changes in features.json."""
    again = sorted(set((exchanged // facts["shard"]).tolist()))
    print(
        f"{folder}: {len(exchanged):,} image files are others than before; "
        f"{len(again):,} parts are made again",
        flush=True,
    )
    for k in again:
        # Whoever is at work on it may have read the file of before.
        with claim(part_lock(folder, k), wait=True):
            part_file(folder, k).unlink(missing_ok=True)
    if facts["complete"] or facts["todo"] is not None:
        return {"complete": False, "todo": sorted({*again, *(facts["todo"] or [])})}
    return {"complete": False}


def _read_sizes(folder: Path, images: int) -> np.ndarray:
    """Sizes of the image files as they were; -2, which no file has, where they are not known."""
    try:
        stored = np.array(open_array(folder / "pictures.npy", AGAIN))
    except DataError:
        return np.full(images, -2)
    fits = stored.shape == (images,) and stored.dtype.kind in "iu"
    return stored if fits else np.full(images, -2)


def parts_to_make(folder: Path, parts: int) -> dict[int, Path]:
    """{part: its file} of those that are to be there before all is put together."""
    todo = read_facts(folder)["todo"]
    return {k: part_file(folder, k) for k in (range(parts) if todo is None else todo)}
