"""Predictions as they are saved, a column at a time."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from i2m2.errors import DamagedError

UNREADABLE = (ValueError, OSError, EOFError, zipfile.BadZipFile)


class SavedPredictions(Mapping[str, np.ndarray]):
    """The columns of a predictions_<split>.npz, each read when it is first asked for and then kept:
    the log-probabilities of thousands of answers take gigabytes, and few ask for them. DamagedError
    for what cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._columns: dict[str, np.ndarray] = {}
        try:
            self._file = np.load(
                path, allow_pickle=False
            )  # stays open: another file may take its place meanwhile
        except UNREADABLE as error:
            raise self._damaged(error) from error

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._columns:
            try:
                self._columns[name] = self._file[name]
            except UNREADABLE as error:
                raise self._damaged(error) from error
        return self._columns[name]

    def __contains__(self, name: object) -> bool:  # the one inherited would read the column
        return name in self._file.files

    def __iter__(self) -> Iterator[str]:
        return iter(self._file.files)

    def __len__(self) -> int:
        return len(self._file.files)

    def _damaged(self, error: Exception) -> DamagedError:
        return DamagedError(f"{self.path} is damaged ({error}); delete it and predict again")


def read_predictions(directory: Path, split: str) -> SavedPredictions | None:
    """Saved predictions of a run's folder, None where there are none. DamagedError if they cannot
    be read."""
    path = directory / f"predictions_{split}.npz"
    return SavedPredictions(path) if path.exists() else None
