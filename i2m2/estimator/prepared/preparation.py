"""Blocks as the experts read them; everything here is fitted on training rows alone."""

from __future__ import annotations

import numpy as np

from i2m2.estimator.given.kinds import Block, Blocks
from i2m2.estimator.given.values import InputError
from i2m2.estimator.prepared.forms import BlockPreparation, Prepared, PreparedBlocks
from i2m2.estimator.prepared.series import Series
from i2m2.estimator.prepared.tables import Table
from i2m2.estimator.prepared.wide import Embedding, Picture, Text


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


def _spread(fitted: BlockPreparation, block: Block | None, n: int) -> Prepared:
    """Prepare the rows that have the block; the others hold zeros and NaN."""
    present = np.zeros(n, bool) if block is None else block.present
    rows = np.flatnonzero(present)
    forms = fitted.transform(block.take(rows)) if len(rows) else fitted.nothing()

    def spread(values: np.ndarray | None, absent: float = 0.0) -> np.ndarray | None:
        if values is None:
            return None
        found = np.full((n, *values.shape[1:]), absent, values.dtype)
        found[rows] = values
        return found

    return Prepared(
        dense=spread(forms.dense),
        features=spread(forms.features, np.nan),
        names=fitted.names,
        categorical=fitted.categorical,
        grid=spread(forms.grid),
        present=present,
        shapes=spread(forms.shapes),
    )


_PREPARATIONS = {
    "table": Table,
    "series": Series,
    "picture": Picture,
    "text": Text,
    "embedding": Embedding,
}
