"""Blocks as the experts read them; everything here is fitted on training rows alone.

Of every block there are up to three forms:

* `dense` float32 [n, D]: finite, standardised numbers, one column per category, indicators of what
  is missing; for linear models and networks;
* `features` float64 [n, Q]: few columns as they are, NaN where missing, categories as codes; for
  boosted trees and a user's own scikit-learn models;
* `grid` float32 [n, C, ...]: series (value, then whether it was measured) and pictures for
  convolutions; None for other kinds.

Rows that lack the block hold zeros (NaN in `features`); no expert reads them.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from i2m2.estimator.blocks import Block, Blocks, InputError, as_text

CLIP = 5.0  # standard deviations; what lies further out is an outlier or a mistake
MOST_CATEGORIES = 100  # of a column; rarer ones share the code of what was never seen
FEW_VALUES = 10  # a number with so few values may also be a category
MOST_FEATURES = 50  # of pictures, texts and embeddings, for trees
MOST_TERMS = 5_000  # of a vocabulary
WIDE = 256  # columns of a dense form beyond which it is projected
STEPS = 64  # of a series' grid; longer ones are averaged
PIXELS = 32  # side of a picture's grid; larger ones are averaged
SUMMARIES = ("mean", "min", "max", "last", "first", "std", "slope", "count")
TREE_SUMMARIES = 4  # the first of them


@dataclass
class Prepared:
    """One block, ready for the experts; `categorical` [Q] marks the codes among `features`."""

    dense: np.ndarray
    features: np.ndarray
    names: list[str]
    categorical: np.ndarray
    grid: np.ndarray | None
    present: np.ndarray

    def __len__(self) -> int:
        return len(self.present)

    def take(self, rows: np.ndarray) -> Prepared:
        grid = None if self.grid is None else self.grid[rows]
        arrays = (self.dense[rows], self.features[rows])
        return Prepared(*arrays, self.names, self.categorical, grid, self.present[rows])


PreparedBlocks = dict[str, Prepared]


class Preparation:
    """Turn blocks into what the experts read: `fit` on training rows, then `transform` any."""

    def fit(self, blocks: Blocks, seed: int = 0) -> Preparation:
        self.of_block = {}
        for name, block in blocks.items():
            if not block.present.any():
                raise InputError(f"{name}: every value is missing in all {len(block):,} rows")
            fitted = _PREPARATIONS[block.kind](name)
            self.of_block[name] = fitted.fit(block.take(np.flatnonzero(block.present)), seed)
        self.kinds = {name: block.kind for name, block in blocks.items()}
        return self

    def transform(self, blocks: Blocks) -> PreparedBlocks:
        """{modality: prepared block}. A modality that `blocks` lacks is absent from every row."""
        if unknown := [name for name in blocks if name not in self.of_block]:
            known = ", ".join(self.of_block)
            raise InputError(
                f"there was no modality {unknown[0]!r} in training; there were {known}"
            )
        n = len(next(iter(blocks.values())))
        prepared = {}
        for name, fitted in self.of_block.items():
            block = blocks.get(name)
            if block is not None and block.kind != self.kinds[name]:
                kinds = f"a {block.kind}, and was a {self.kinds[name]} in training"
                raise InputError(f"{name} is {kinds}; give the same kind, or name it by `kinds`")
            prepared[name] = _spread(fitted, block, n)
        return prepared


def _spread(fitted: _BlockPreparation, block: Block | None, n: int) -> Prepared:
    """Prepare the rows that have the block; the others hold zeros and NaN."""
    present = np.zeros(n, bool) if block is None else block.present
    rows = np.flatnonzero(present)
    if len(rows):
        dense, features, grid = fitted.transform(block.take(rows))
    else:
        dense, features, grid = fitted.nothing()
    spread = [np.zeros((n, *dense.shape[1:]), np.float32), np.full((n, features.shape[1]), np.nan)]
    spread[0][rows], spread[1][rows] = dense, features
    whole = None
    if grid is not None:
        whole = np.zeros((n, *grid.shape[1:]), np.float32)
        whole[rows] = grid
    return Prepared(*spread, fitted.names, fitted.categorical, whole, present)


class _BlockPreparation:
    """What is fitted for one block: `names` and `categorical` of the features, sizes of the
    rest."""

    def __init__(self, block: str) -> None:
        self.block = block

    def nothing(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """The three forms of no rows."""
        grid = None if self.grid_shape is None else np.zeros((0, *self.grid_shape), np.float32)
        return np.zeros((0, self.width), np.float32), np.zeros((0, len(self.names))), grid

    def _remember(self, block: Block, names: list[str], categorical: np.ndarray) -> None:
        self.names, self.categorical = names, categorical
        self.width, self.grid_shape = 0, None
        dense, _, grid = self.transform(block)
        self.width = dense.shape[1]
        self.grid_shape = None if grid is None else grid.shape[1:]


def _moments(x: np.ndarray, axis: int | tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the values that are known; 0 and NaN where none is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # columns without any value
        mean = np.nanmean(x, axis=axis, dtype=np.float64)
        std = np.nanstd(x, axis=axis, dtype=np.float64)
    return np.nan_to_num(mean), std


class _Standardise:
    """(x - mean) / standard deviation, clipped; missing values become 0, the mean, and those
    columns that miss any have an indicator behind them."""

    def fit(self, x: np.ndarray) -> _Standardise:
        self.mean, self.std = _moments(x, axis=0)
        # A constant leaves rounding in its standard deviation.
        constant = ~(self.std > 1e-9 * np.maximum(1.0, np.abs(self.mean)))
        self.std = np.where(constant, 1.0, self.std)
        self.missing = np.flatnonzero(np.isnan(x).any(axis=0))
        share = np.isnan(x[:, self.missing]).mean(axis=0)
        self.share, self.spread = share, np.sqrt(share * (1 - share)) + 0.05
        return self

    def __call__(self, x: np.ndarray) -> np.ndarray:
        scaled = np.clip((x - self.mean) / self.std, -CLIP, CLIP)
        absent = (np.isnan(x[:, self.missing]) - self.share) / self.spread
        return np.concatenate([np.nan_to_num(scaled), absent], axis=1).astype(np.float32)


class _Table(_BlockPreparation):
    """Columns without any value in training (not `known`) are not read."""

    def fit(self, block: Block, seed: int) -> _Table:
        frame = block.values
        self.columns = list(map(str, frame.columns))
        self.known = frame.notna().any().to_numpy()
        frame = frame.loc[:, self.known]
        self.numeric = np.array([frame[name].dtype.kind == "f" for name in frame.columns])
        self.categories: dict[str, list] = {}
        for place in range(frame.shape[1]):
            if (values := self._categories(frame.iloc[:, place], place)) is not None:
                self.categories[str(place)] = values
        self.scale = _Standardise().fit(self._numbers(frame))
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

    def transform(self, block: Block):
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
        return np.concatenate(dense, axis=1), features, None

    def _as_trained(self, frame, numeric_now: np.ndarray):
        """A column that was a category and holds numbers now is a category; the reverse holds only
        where every value of it is missing."""
        frame = frame.copy()
        for place in np.flatnonzero(numeric_now != self.numeric):
            name = frame.columns[place]
            if numeric_now[place]:
                texts = [None if np.isnan(x) else as_text(x) for x in frame[name]]
                frame[name] = np.array(texts, dtype=object)
            elif frame[name].isna().all():
                frame[name] = np.nan
            else:
                value = frame[name].dropna().iloc[0]
                raise InputError(
                    f"{self.block}: column {name!r} held numbers in training, and now {value!r}"
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
        raise InputError(f"{self.block}: the columns are not those of training: it {first}")


def _codes(column, values: list) -> np.ndarray:
    """The place of each value in `values`, -1 for others and for what is missing."""
    place = {value: code for code, value in enumerate(values)}
    return column.map(place).fillna(-1).to_numpy(np.int64)


class _Series(_BlockPreparation):
    def fit(self, block: Block, seed: int) -> _Series:
        self.channels = block.values.shape[2]
        self.mean, std = _moments(block.values, axis=(0, 1))
        self.std = np.where(std > 1e-9, std, 1.0)
        self.length = block.values.shape[1]
        self.gaps = bool(np.isnan(block.values).any())
        self.scale = _Standardise().fit(_summaries(block.values).reshape(len(block), -1))
        names = [f"{what}_{k}" for what in SUMMARIES[:TREE_SUMMARIES] for k in range(self.channels)]
        self._remember(block, names, np.zeros(len(names), bool))
        return self

    def transform(self, block: Block):
        if block.values.shape[2] != self.channels:
            raise InputError(
                f"{self.block}: a series of {block.values.shape[2]} channels; "
                f"in training it had {self.channels}"
            )
        summaries = _summaries(block.values)
        features = summaries[:, :TREE_SUMMARIES].reshape(len(block), -1)
        return self.scale(summaries.reshape(len(block), -1)), features, self._grid(block.values)

    def _grid(self, values: np.ndarray) -> np.ndarray:
        """[n, T, C] -> [n, C or 2 C, steps]: standardised means over bins of time, and where
        training had gaps whether anything was measured. The bins are those of training, whatever
        the length: a shorter series fills the first of them, a longer one ends in the last."""
        scaled = np.clip((values - self.mean) / self.std, -CLIP, CLIP)
        lacking = max(0, self.length - values.shape[1])
        scaled = np.pad(scaled, [(0, 0), (0, lacking), (0, 0)], constant_values=np.nan)
        steps = min(self.length, STEPS)
        edges = np.linspace(0, self.length, steps + 1).round().astype(int)[:-1]
        measured = np.add.reduceat(~np.isnan(scaled), edges, axis=1, dtype=np.float32)
        total = np.add.reduceat(np.nan_to_num(scaled), edges, axis=1)
        means = total / np.maximum(measured, 1)
        both = np.concatenate([means, measured > 0], axis=2) if self.gaps else means
        return np.ascontiguousarray(both.transpose(0, 2, 1), dtype=np.float32)


def _summaries(values: np.ndarray) -> np.ndarray:
    """Of a series [n, T, C], each of SUMMARIES per channel [n, 8, C]; NaN where nothing is
    known."""
    values = values.astype(np.float64)
    known = ~np.isnan(values)
    count = known.sum(axis=1)
    step = np.arange(values.shape[1])[None, :, None]
    filled = np.where(known, values, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = filled.sum(axis=1) / count
        centred = np.where(known, values - mean[:, None], 0.0)
        middle = np.where(known, step, 0).sum(axis=1) / count
        away = np.where(known, step - middle[:, None], 0.0)
        std = np.sqrt((centred**2).sum(axis=1) / count)
        slope = (away * centred).sum(axis=1) / (away**2).sum(axis=1)
    low = np.where(known, values, np.inf).min(axis=1)
    high = np.where(known, values, -np.inf).max(axis=1)
    last = np.where(known, step, -1).max(axis=1)
    first = np.where(known, step, values.shape[1]).min(axis=1) % values.shape[1]
    ends = [np.take_along_axis(values, place[:, None], axis=1)[:, 0] for place in (last, first)]
    found = [mean, low, high, *ends, std, slope]
    found = [np.where((count > 0) & np.isfinite(one), one, np.nan) for one in found]
    return np.stack([*found, count], axis=1)


class _Picture(_BlockPreparation):
    def fit(self, block: Block, seed: int) -> _Picture:
        self.shape = block.values.shape[1:]
        flat = _shrunk(block.values)
        mean, std = _moments(flat, axis=(0, 2, 3))
        self.mean = mean[:, None, None]
        self.std = np.where(std > 1e-6, std, 1e-6)[:, None, None]
        self.project = _Projection().fit(flat.reshape(len(flat), -1), seed)
        names = [f"component_{k}" for k in range(self.project.few)]
        self._remember(block, names, np.zeros(len(names), bool))
        return self

    def transform(self, block: Block):
        if block.values.shape[1:] != self.shape:
            now, then = block.values.shape[1:], self.shape
            raise InputError(f"{self.block}: a picture of shape {now}; in training it was {then}")
        small = _shrunk(block.values)
        dense, features = self.project(small.reshape(len(small), -1))
        grid = np.nan_to_num((small - self.mean) / self.std)
        return dense, features, grid.astype(np.float32)


def _shrunk(pictures: np.ndarray) -> np.ndarray:
    """[n, C, H, W] -> at most 32 x 32, each pixel the mean of its area."""
    for axis in (2, 3):
        size = pictures.shape[axis]
        if size > PIXELS:
            edges = np.linspace(0, size, PIXELS + 1).round().astype(int)
            sums = np.add.reduceat(pictures, edges[:-1], axis=axis, dtype=np.float32)
            width = np.diff(edges).reshape(-1, *[1] * (3 - axis))
            pictures = sums / width
    return pictures


class _Projection:
    """Many columns as standardised ones, at most 256 (else principal components), and as few
    components for trees."""

    def fit(self, x: np.ndarray, seed: int) -> _Projection:
        from sklearn.decomposition import PCA

        self.scale = _Standardise().fit(x)
        scaled = self.scale(x)
        most = max(1, min(scaled.shape[1], len(x) - 1))
        self.pca, self.few, self.wide = None, scaled.shape[1], scaled.shape[1] > WIDE
        if scaled.shape[1] > MOST_FEATURES:
            components = min(most, WIDE if self.wide else MOST_FEATURES)
            self.pca = PCA(components, svd_solver="randomized", random_state=seed)
            with np.errstate(invalid="ignore"):  # rows that are all alike have no variance
                self.pca.fit(scaled)
            self.few = min(components, MOST_FEATURES)
            variance = np.nan_to_num(self.pca.explained_variance_[: self.few])  # NaN: of one row
            self.size = float(np.sqrt(variance.mean())) or 1.0
        return self

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scaled = self.scale(x)
        if self.pca is None:
            return scaled, scaled.astype(np.float64)
        components = self.pca.transform(scaled)
        dense = (components / self.size).astype(np.float32) if self.wide else scaled
        return dense, components[:, : self.few].astype(np.float64)


class _Embedding(_BlockPreparation):
    def fit(self, block: Block, seed: int) -> _Embedding:
        self.columns = block.values.shape[1]
        self.project = _Projection().fit(block.values.astype(np.float64), seed)
        names = [f"component_{k}" for k in range(self.project.few)]
        self._remember(block, names, np.zeros(len(names), bool))
        return self

    def transform(self, block: Block):
        if block.values.shape[1] != self.columns:
            raise InputError(
                f"{self.block}: X has {block.values.shape[1]} features, but the model is expecting "
                f"{self.columns} features as input"
            )
        return *self.project(block.values.astype(np.float64)), None


class _Text(_BlockPreparation):
    """TF-IDF of words; of a large vocabulary its leading singular vectors (latent semantic
    analysis)."""

    def fit(self, block: Block, seed: int) -> _Text:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        least = 2 if len(block) >= 100 else 1
        options = {"max_features": MOST_TERMS, "sublinear_tf": True, "token_pattern": r"\b\w+\b"}
        self.terms = TfidfVectorizer(min_df=least, **options)
        try:
            weights = self.terms.fit_transform(block.values)
        except ValueError as error:
            shared = "no word" if least == 1 else "no word that two of them share"
            raise InputError(f"{self.block}: these texts hold {shared}; leave it out") from error
        self.svd = None
        if weights.shape[1] > WIDE:
            components = max(1, min(WIDE // 2, len(block) - 1))
            self.svd = TruncatedSVD(components, random_state=seed)
            with np.errstate(invalid="ignore"):  # texts that are all alike have no variance
                self.svd.fit(weights)
        dense = self._project(block.values)
        self.scale = float(np.sqrt((dense**2).mean())) or 1.0
        few = min(dense.shape[1], MOST_FEATURES)
        # Without a projection the terms most often used stand for the text in trees.
        self.order = np.argsort(-(dense != 0).mean(axis=0), kind="stable")[:few]
        if self.svd is not None:
            self.order = np.arange(few)
        names = [f"component_{k}" for k in range(few)]
        self._remember(block, names, np.zeros(few, bool))
        return self

    def _project(self, texts: np.ndarray) -> np.ndarray:
        weights = self.terms.transform(texts)
        return weights.toarray() if self.svd is None else self.svd.transform(weights)

    def transform(self, block: Block):
        dense = self._project(block.values)
        return (dense / self.scale).astype(np.float32), dense[:, self.order], None


_PREPARATIONS = {
    "table": _Table,
    "series": _Series,
    "picture": _Picture,
    "text": _Text,
    "embedding": _Embedding,
}


def joined(prepared: PreparedBlocks, modalities: tuple[str, ...]) -> Prepared:
    """Several blocks side by side, for an expert that reads them all; `grid` stays by block."""
    parts = [prepared[name] for name in modalities]
    if len(parts) == 1:
        return parts[0]
    names = [f"{name}__{column}" for name in modalities for column in prepared[name].names]
    return Prepared(
        np.concatenate([part.dense for part in parts], axis=1),
        np.concatenate([part.features for part in parts], axis=1),
        names,
        np.concatenate([part.categorical for part in parts]),
        None,
        np.logical_and.reduce([part.present for part in parts]),
    )
