"""What a data set is for training, its order by seed and epoch alone, and checks on loading."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Protocol, TypedDict, TypeVar

import msgspec
import numpy as np
import torch
from accelerate.utils import send_to_device
from torch import Tensor
from torch.utils._pytree import tree_map
from torch.utils.data import DataLoader, Dataset

from i2m2.errors import DataError, SettingsError
from i2m2.files import Plain, finite
from i2m2.reading.records import as_record, fault, read_record
from i2m2.runs import DataFacts
from i2m2.training.preparation import (
    as_classes,
    as_input,
    as_labels,
    as_mask,
    as_names,
    as_rows,
)

CHECKED_AT_ONCE = 256  # examples, of which a copy is made

Rows = TypeVar("Rows")  # an array or a table, of which a slice is rows
Inputs = dict[str, Tensor]
# {"inputs": {modality: tensor [B, ...] in its stored type}, "y": tensor [B(, L)],
#  "present": {modality: bool [B]} (optional)}
Batch = dict[str, Any]


class MultimodalDataset(Protocol):
    """A split: indexed by an array of positions, it gives one batch.

    It may have `labels`, the names of several labels; `set_epoch(epoch)`, where training data look
    different in every epoch; `columns` {name: array [n, ...]}, which stand in for a `y` that is no
    array in predictions.
    """

    id: np.ndarray  # [n]
    group: np.ndarray  # [n], the unit that a bootstrap resamples: volume, patient, image
    y: Any  # [n(, L)] classes

    def __len__(self) -> int: ...

    def __getitem__(self, positions: Sequence[int]) -> Batch: ...

    def prepare(self, inputs: Inputs) -> Inputs:
        """Turn the stored types (uint8, complex64) into what the encoders take; on the device."""

    def select(self, modalities: Iterable[str]) -> MultimodalDataset:
        """The same examples without the modalities that nobody reads."""


@dataclass(eq=False)
class ArrayDataset(Dataset):
    """Rows of an array per modality, memory-mapped or not; a batch is one fancy index per array.

    What users have is taken as it is: DataFrames and Series, whose numbers become float32; arrays,
    of which integers keep the type that is stored (pixels, tokens) and float64 becomes float32;
    labels of any integer or bool type, or texts among `classes`; ids of integers, or as texts.
    `present` {modality: bool [n]} says which examples have it, all where it is not named; NaN may
    stand in an absent place and nowhere else. DataError, by name, for what cannot be taken.
    """

    inputs: Mapping[str, np.ndarray]
    y: np.ndarray  # [n(, L)]; `id`, `group` and `present` too are picked already
    rows: np.ndarray | None = None  # [n], which of the arrays of `inputs`; None: all, in order
    id: np.ndarray | None = None  # None: the rows
    prepare: Callable[[Inputs], Inputs] = dict
    group: np.ndarray | None = None  # None: `id`
    source: Mapping[str, str] = field(default_factory=dict)  # {modality: its file}, for errors
    present: Mapping[str, np.ndarray] = field(default_factory=dict)
    classes: Sequence[str] | None = None  # where labels are texts: the class k that each stands for
    labels: Sequence[str] | None = None  # names of the L labels

    def __post_init__(self) -> None:
        for name in ("inputs", "present"):
            if not isinstance(given := getattr(self, name), Mapping):
                kind = type(given).__name__
                raise DataError(f"{name}: a {kind} names no modality; give {{modality: array}}")
        self.inputs = {name: as_input(name, x) for name, x in self.inputs.items()}
        self.y = as_classes(self.y, self.classes)
        self.labels = as_labels(self.labels, self.y)
        every = self.rows is None
        self.rows = np.arange(len(self.y)) if every else as_rows(self.rows)
        self.id = self.rows if self.id is None else as_names("id", self.id)
        self.group = self.id if self.group is None else as_names("group", self.group)
        self.present = {name: as_mask(name, mask) for name, mask in self.present.items()}
        if unknown := sorted(self.present.keys() - self.inputs.keys()):
            known = ", ".join(self.inputs)
            raise DataError(f"present names {', '.join(unknown)}; the modalities are {known}")
        columns = {"rows": self.rows, "id": self.id, "group": self.group}
        columns |= {f"present of {name}": mask for name, mask in self.present.items()}
        columns |= self.inputs if every else {}
        for name, column in columns.items():
            if len(column) != len(self.y):
                raise DataError(f"{name}: {len(column)} rows, but there are {len(self.y)} labels")

    def select(self, modalities: Iterable[str]) -> ArrayDataset:
        """The same examples without the modalities that nobody reads."""
        modalities = list(modalities)
        if unknown := [name for name in modalities if name not in self.inputs]:
            known = ", ".join(self.inputs)
            raise DataError(f"there is no modality {', '.join(unknown)}; the data have {known}")
        selected = copy(self)  # not built again: a subclass keeps what it has of its own
        selected.inputs = {name: self.inputs[name] for name in modalities}
        selected.present = {name: self.present[name] for name in modalities if name in self.present}
        return selected

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, positions: Sequence[int]) -> Batch:
        """DataError, with file and row, where a floating-point input is not finite."""
        rows = self.rows[positions]
        inputs = {}
        for modality, array in self.inputs.items():
            picked = _as_stored(_rows_of(array, rows))
            self._check_finite(modality, picked, rows, positions)
            inputs[modality] = torch.from_numpy(picked)
        batch = {"inputs": inputs, "y": torch.from_numpy(self.y[positions])}
        if self.present:
            masks = {name: mask[positions] for name, mask in self.present.items()}
            batch["present"] = {name: torch.from_numpy(mask) for name, mask in masks.items()}
        return batch

    def _check_finite(
        self, modality: str, picked: np.ndarray, rows: np.ndarray, positions: Sequence[int]
    ) -> None:
        if picked.dtype.kind not in "fc" or np.isfinite(picked).all():
            return
        bad = ~np.isfinite(picked.reshape(len(rows), -1)).all(axis=1)
        if modality in self.present:
            bad &= self.present[modality][positions]
        if bad.any():
            raise self._error(modality, f"row {rows[bad][0]} holds NaN or infinity")

    def check_finite(self, name: str) -> None:
        """DataError where an input of the split, called `name`, would raise one on its use."""
        floats = {m: array for m, array in self.inputs.items() if array.dtype.kind in "fc"}
        for begin in range(0, len(self) if floats else 0, CHECKED_AT_ONCE):
            positions = np.arange(begin, min(begin + CHECKED_AT_ONCE, len(self)))
            rows = self.rows[positions]
            try:
                for modality, array in floats.items():
                    self._check_finite(modality, _rows_of(array, rows), rows, positions)
            except DataError as error:
                raise DataError(f"{name}: {error}") from error

    def check_rows(self, name: str) -> None:
        """DataError if the split, called `name`, has rows that an array has not."""
        for modality, array in self.inputs.items():
            if (last := self.rows.max()) >= len(array):
                needed = f"the {name} split needs row {last}"
                raise self._error(modality, f"{len(array)} rows, but {needed}")

    def _error(self, modality: str, what: str) -> DataError:
        file = self.source.get(modality, modality)
        return DataError(f"{file}: {what}; prepare the data again")


def _rows_of(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """These rows of an array, or of what is read like one: an HDF5 file gives rows in its order."""
    if isinstance(array, np.ndarray):
        return np.asarray(array[rows])
    once, place = np.unique(rows, return_inverse=True)
    return np.asarray(array[once])[place]


def _as_stored(picked: np.ndarray) -> np.ndarray:
    """Numbers as torch takes them: in this machine's order of bytes, no wider than float32."""
    widest = {"f": np.dtype(np.float32), "c": np.dtype(np.complex64)}.get(picked.dtype.kind)
    wide = widest is not None and picked.dtype.itemsize > widest.itemsize
    with np.errstate(over="ignore"):  # infinity then, which is refused by its row
        return picked.astype(widest if wide else picked.dtype.newbyteorder("="), copy=False)


class ResidentDataset:
    """An `ArrayDataset` whose examples lie on a device, in their stored types: a batch is an index
    of tensors there. DataError where the first use of an example would raise one."""

    def __init__(self, dataset: ArrayDataset, device: torch.device) -> None:
        self.dataset, self.device = dataset, device
        self.examples = send_to_device(dataset[np.arange(len(dataset))], device)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, positions: Sequence[int]) -> Batch:
        index = torch.as_tensor(positions, device=self.device)
        return tree_map(lambda x: x[index], self.examples)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.dataset, name)


def resident(dataset: MultimodalDataset, device: torch.device) -> MultimodalDataset:
    """The same examples on a GPU, where they take at most an eighth of its free memory: a small
    step would else wait for the host's copies."""
    if device.type != "cuda" or type(dataset) is not ArrayDataset:
        return dataset
    size = sum(array[:1].nbytes for array in dataset.inputs.values()) * len(dataset)
    free, _ = torch.cuda.mem_get_info(device)
    return ResidentDataset(dataset, device) if size <= free / 8 else dataset


class MicroBatch(NamedTuple):
    """What one device does in one forward and backward pass."""

    positions: np.ndarray  # of the examples in the training split
    scale: float  # of the summed loss: 1 / examples of the update; 0 for a device without a share
    last: bool  # of its update: gradients are exchanged and the weights change


def training_plan(
    examples: int,
    batch_size: int,
    seed: int,
    epoch: int,
    micro_batches: int = 1,
    rank: int = 0,
    world_size: int = 1,
) -> list[MicroBatch]:
    """One epoch's micro-batches of one device: a permutation that depends on (seed, epoch) alone,
    cut into updates of `batch_size` examples (the last may be smaller), each dealt out to the
    devices and cut into `micro_batches`.

    Every division gives the same gradient: each example weighs 1 / examples of its update.
    """
    order = np.random.default_rng([seed, epoch]).permutation(examples)
    plan = []
    for start in range(0, examples, batch_size):
        update = order[start : start + batch_size]
        share = update[rank::world_size]
        scale = 1 / len(update)
        if not len(share):  # fewer examples than devices: take part in the exchange of gradients
            share, scale = update[:1], 0.0
        parts = [share]
        if micro_batches > 1:
            parts = [part for part in np.array_split(share, micro_batches) if len(part)]
        plan += [MicroBatch(part, scale, part is parts[-1]) for part in parts]
    return plan


def loader(
    dataset: MultimodalDataset,
    positions: Iterable[np.ndarray],
    workers: int = 0,
    pin_memory: bool = False,
) -> Iterable[Batch]:
    """Batches of the given positions, in that order, whatever the number of workers: at most one
    for each processor that the process may use. No random number of this process is drawn."""
    if isinstance(dataset, ResidentDataset) or not workers and not pin_memory:
        return (dataset[part] for part in positions)  # a DataLoader adds nothing here but time
    workers = min(workers, len(os.sched_getaffinity(0)))  # PyTorch would warn of more
    # A DataLoader draws the seed of its workers, else from the generator that dropout draws from.
    own = torch.Generator().manual_seed(torch.initial_seed())
    options = {"num_workers": workers, "pin_memory": pin_memory, "generator": own}
    return DataLoader(dataset, batch_size=None, sampler=list(positions), **options)


def to_device(batch: Batch, device: torch.device, prepare: Callable[[Inputs], Inputs]) -> Batch:
    """Move a batch in its stored types, then prepare its inputs there."""
    moved = send_to_device(batch, device, non_blocking=True)
    return moved | {"inputs": prepare(moved["inputs"])}


def seed_everything(*seed: int) -> None:
    """Seed Python, NumPy and PyTorch from some integers, say (seed, epoch, rank). Every epoch
    begins so: a run that is resumed has no random states to restore."""
    words = _words(*seed)
    random.seed(words[0])
    np.random.seed(words[1])
    torch.manual_seed(words[2])


def seed_generator(generator: torch.Generator, *seed: int) -> None:
    """Give a generator the state that `seed_everything` gives PyTorch."""
    generator.manual_seed(_words(*seed)[2])


def _words(*seed: int) -> list[int]:
    # Their number comes first, since a seed sequence takes (0,) and (0, 0) for the same.
    return np.random.SeedSequence([len(seed), *seed]).generate_state(3).tolist()


class Data(NamedTuple):
    """A data set as training takes it, and what env.json and the results folder say of it."""

    splits: dict[str, MultimodalDataset]  # train, val, test
    variant: str  # of the results folder's name; empty for the data set as published
    facts: Plain  # at least variant, synthetic, description, fingerprint


def check_facts(facts: Plain) -> None:
    """DataError for what env.json cannot hold, or lacks then."""
    needed = {"description": None, "fingerprint": None}
    try:
        msgspec.convert(json.loads(json.dumps(finite(needed | facts))), DataFacts)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"facts of the data: {fault(error)}; give description and fingerprint as texts, "
            "other facts as JSON can hold them"
        ) from error


class Description(TypedDict):
    """What dataset.json of any prepared folder says; every data set adds its own."""

    variant: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]+$")]
    synthetic: bool
    description: str


def read_description(folder: Path) -> Plain:
    """dataset.json of a prepared folder, whole. DataError unless it says variant, synthetic and
    description."""
    path, remedy = folder / "dataset.json", "prepare the data again"
    content = read_record(path, Plain, remedy)
    as_record(path, content, Description, remedy)
    return content


def first_of(train: Rows, size: int | None) -> Rows:
    """The first `size` training examples, all for None. SettingsError for more than there are: a
    table would state what was asked for. None at all are left to `check_dataset`."""
    if size is not None and size > len(train) > 0:
        raise SettingsError(
            f"data.train_size={size} is above the {len(train):,} training examples that there are; "
            "give at most so many, or null for all"
        )
    return train[:size]


def refuse_empty(splits: Mapping[str, MultimodalDataset]) -> None:
    """DataError for a split without examples."""
    if empty := [name for name, split in splits.items() if not len(split)]:
        raise DataError(f"{', '.join(empty)}: no examples; every split needs at least one")


def check_dataset(splits: Mapping[str, MultimodalDataset], num_classes: int) -> None:
    """DataError unless every split has examples, labels in 0..C-1, arrays that reach its rows, and
    ids that no other split has."""
    refuse_empty(splits)
    for name, split in splits.items():
        if len(split.y) != len(split):
            raise DataError(
                f"{name}: {len(split)} examples and {len(split.y)} rows of labels; give one each"
            )
        _check_labels(name, split, num_classes)
        if isinstance(split, ArrayDataset):
            split.check_rows(name)
        ids, times = np.unique(split.id, return_counts=True)
        if len(ids) != len(split):
            twice = f"id {ids[times > 1][0]} occurs {times[times > 1][0]} times"
            raise DataError(f"{name}: {twice}; give every example an id of its own")
    for (one, first), (other, second) in combinations(splits.items(), 2):
        if len(shared := np.intersect1d(first.id, second.id)):
            what = f"{other} and {one} share {len(shared)} ids, first {shared[0]}"
            raise DataError(f"{what}; splits must be disjoint")


def _check_labels(name: str, split: MultimodalDataset, num_classes: int) -> None:
    wrong = np.argwhere((split.y < 0) | (split.y >= num_classes))
    if len(wrong):
        row, *place = wrong[0]
        names = getattr(split, "labels", None) or range(split.y.shape[-1])
        which = f" ({names[place[0]]})" if place else ""
        raise DataError(
            f"{name}: label {split.y[(row, *place)]}{which} of id {split.id[row]} is outside "
            f"0..{num_classes - 1}; correct it, or let there be more classes"
        )
