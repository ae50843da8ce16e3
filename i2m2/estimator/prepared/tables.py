"""Tables: numbers standardised, a column for each category."""

from __future__ import annotations

import numpy as np

from i2m2.estimator.given.kinds import Block
from i2m2.estimator.given.values import InputError, as_text
from i2m2.estimator.prepared.forms import BlockPreparation, Forms, Standardise

MOST_CATEGORIES = 100  # of a column; rarer ones share the code of what was never seen
FEW_VALUES = 10  # a number with so few values may also be a category
_TRUTHS = {"true": 1.0, "false": 0.0}


class Table(BlockPreparation):
    """Columns without any value in training (not `known`) are not read."""

    def fit(self, block: Block, seed: int) -> Table:
        frame = block.values
        self.columns = list(map(str, frame.columns))
        self.known = frame.notna().any().to_numpy()
        frame = frame.loc[:, self.known]
        self.numeric = np.array([frame[name].dtype.kind == "f" for name in frame.columns])
        self.categories: dict[str, list] = {}
        for place in range(frame.shape[1]):
            if (values := self._categories(frame.iloc[:, place], place)) is not None:
                self.categories[str(place)] = values
        self.scale = Standardise().fit(self._numbers(frame))
        names = [str(name) for name in frame.columns]
        self._remember(block, names, ~self.numeric)
        return self

    def _categories(self, column, place: int) -> list | None:
        """The values of a category, or of a number that has few; None for any other number."""
        counts = column.value_counts()
        if not self.numeric[place]:
            return [str(value) for value in counts.index[:MOST_CATEGORIES]]
        whole = (counts.index == np.round(counts.index)).all()
        few = 2 < len(counts) <= FEW_VALUES
        return sorted(float(value) for value in counts.index) if whole and few else None

    def _numbers(self, frame) -> np.ndarray:
        return frame.loc[:, self.numeric].to_numpy(np.float64)

    def transform(self, block: Block) -> Forms:
        frame = block.values
        if list(map(str, frame.columns)) != self.columns:
            self._refuse_columns(list(map(str, frame.columns)))
        frame = frame.loc[:, self.known]
        kinds = np.array([frame[name].dtype.kind == "f" for name in frame.columns])
        if (kinds != self.numeric).any():
            frame = self._as_trained(frame, kinds)
        dense = [self.scale(self._numbers(frame))]
        features = np.empty(frame.shape)
        features[:, self.numeric] = self._numbers(frame)
        for key, values in self.categories.items():
            place = int(key)
            codes = _codes(frame.iloc[:, place], values)
            dense.append((codes[:, None] == np.arange(len(values))).astype(np.float32))
            if not self.numeric[place]:
                features[:, place] = np.where(codes < 0, np.nan, codes)
        return Forms(np.concatenate(dense, axis=1), features)

    def _as_trained(self, frame, numeric_now: np.ndarray):
        """A column that was a category and holds numbers now is a category, by the names of
        training; the reverse holds only where every value of it is missing."""
        frame = frame.copy()
        for place in np.flatnonzero(numeric_now != self.numeric):
            name = frame.columns[place]
            if numeric_now[place]:
                trained = self.categories[str(place)]
                names = {x: _trained_name(x, trained) for x in frame[name].dropna().unique()}
                frame[name] = np.array([names.get(x) for x in frame[name]], dtype=object)
            elif frame[name].isna().all():
                frame[name] = np.nan
            else:
                value = frame[name].dropna().iloc[0]
                raise InputError(
                    f"{self.block}: column {name!r} held numbers in training, and now {value!r}; "
                    "give numbers"
                )
        return frame

    def _refuse_columns(self, columns: list[str]) -> None:
        if len(columns) != len(self.columns):
            raise InputError(
                f"{self.block}: X has {len(columns)} features, but the model is expecting "
                f"{len(self.columns)} features as input"
            )
        lacking = [name for name in self.columns if name not in columns]
        first = f"lacks {lacking[0]!r}" if lacking else "has them in another order"
        raise InputError(
            f"{self.block}: the columns are not those of training: it {first}; give those"
        )


def _trained_name(number: float, trained: list[str]) -> str:
    """The category that a number is, which another file's rows may have made a text: `1.0`, or
    `True` beside `unknown`. Its own name where none or several of training would fit."""
    own = as_text(number)
    fitting = [name for name in trained if _number_of(name) == number]
    return fitting[0] if own not in trained and len(fitting) == 1 else own


def _number_of(name: str) -> float:
    """The number that pandas reads a text as; NaN for any other text."""
    try:
        return float(_TRUTHS.get(name.lower(), name))
    except ValueError:
        return np.nan


def _codes(column, values: list) -> np.ndarray:
    """The place of each value in `values`, -1 for others and for what is missing."""
    place = {value: code for code, value in enumerate(values)}
    return column.map(place).fillna(-1).to_numpy(np.int64)
