"""Pictures, embeddings and texts: many columns, and as few components of them for trees."""

from __future__ import annotations

import numpy as np

from i2m2.estimator.given.kinds import Block
from i2m2.estimator.given.values import InputError
from i2m2.estimator.prepared.forms import BlockPreparation, Forms, Standardise, moments

MOST_FEATURES = 50  # of pictures, texts and embeddings, for trees
MOST_TERMS = 5_000  # of a vocabulary
WIDE = 256  # columns of a dense form beyond which it is projected
# Characters of languages that put no space between words: a word of theirs is each of them.
ALONE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
WORDS = rf"[{ALONE}]|[^\W{ALONE}]+"
PIXELS = 32  # side of a picture's grid; larger ones are averaged


class Picture(BlockPreparation):
    """Standardised pixels or their principal components, and a grid of at most 32 x 32 pixels."""

    def fit(self, block: Block, seed: int) -> Picture:
        self.shape = block.values.shape[1:]
        flat = _shrunk(block.values)
        mean, std = moments(flat, axis=(0, 2, 3))
        self.mean = mean[:, None, None]
        self.std = np.where(std > 1e-6 * np.abs(mean), std, 1.0)[:, None, None]
        self.project = _Projection().fit(flat.reshape(len(flat), -1), seed)
        names = [f"component_{k}" for k in range(self.project.few)]
        self._remember(block, names, np.zeros(len(names), bool))
        return self

    def transform(self, block: Block) -> Forms:
        if block.values.shape[1:] != self.shape:
            now, then = block.values.shape[1:], self.shape
            raise InputError(f"{self.block}: a picture of shape {now}; in training it was {then}")
        small = _shrunk(block.values)
        dense, features = self.project(small.reshape(len(small), -1))
        grid = np.nan_to_num((small - self.mean) / self.std)
        return Forms(dense, features, grid.astype(np.float32))


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

        self.scale = Standardise().fit(x)
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
        # Of float64, then rounded: the last bits of a sum depend on the rows beside it and on the
        # number of threads, and trees split at values of training rows.
        components = self.pca.transform(scaled.astype(np.float64))
        dense = (components / self.size).astype(np.float32) if self.wide else scaled
        return dense, components[:, : self.few].astype(np.float32).astype(np.float64)


class Embedding(BlockPreparation):
    """Standardised numbers or their principal components."""

    def fit(self, block: Block, seed: int) -> Embedding:
        self.columns = block.values.shape[1]
        self.project = _Projection().fit(block.values.astype(np.float64), seed)
        names = [f"component_{k}" for k in range(self.project.few)]
        self._remember(block, names, np.zeros(len(names), bool))
        return self

    def transform(self, block: Block) -> Forms:
        if block.values.shape[1] != self.columns:
            raise InputError(
                f"{self.block}: X has {block.values.shape[1]} features, but the model is expecting "
                f"{self.columns} features as input"
            )
        return Forms(*self.project(block.values.astype(np.float64)))


class Text(BlockPreparation):
    """TF-IDF of words, or of characters ALONE; of a large vocabulary its leading singular vectors
    (latent semantic analysis)."""

    def fit(self, block: Block, seed: int) -> Text:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        least = 2 if len(block) >= 100 else 1
        options = {"max_features": MOST_TERMS, "sublinear_tf": True, "token_pattern": WORDS}
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

    def transform(self, block: Block) -> Forms:
        dense = self._project(block.values)
        return Forms((dense / self.scale).astype(np.float32), dense[:, self.order])
