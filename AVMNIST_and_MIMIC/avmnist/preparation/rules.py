"""Rules of the preparation of AV-MNIST; the defaults are the variant `calibrated`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from i2m2.errors import SettingsError

PARTS = ("train", "val", "test")
KINDS = ("white", "pink", "brown", "babble")  # of generated noise


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Every rule of the preparation.

    The range of signal-to-noise ratios is calibrated on the validation rows of MNIST and FSDD with
    generated noise, so that audio alone reaches 40-45 %: see README.md, "Variants", which also says
    what was known of test rows.

    Args:
        energy: share of the variance that the kept components explain
        energy_rule: the fewest components that reach it, or the most that stay within
        components: a fixed number instead of the energy
        add_mean: add the mean image back
        pca_fit: on the training images alone, or on each file by itself
        val_rows: the last rows of the train files; None: a twelfth of them (5,000 of 60,000)
        speakers: empty: all
        split: what no two parts share
        test_takes: FSDD's own test split
        val_takes: empty: validation shares the training recordings
        test_speakers: of split `speaker`; empty: the last by name
        val_speakers: of split `speaker`; empty: the last by name that is left
        noise: of these kinds, or `clips`; empty: none
        snr_min: lowest signal-to-noise ratio, in dB over the whole clip
        snr_max: highest signal-to-noise ratio
    """

    energy: float = 0.25
    energy_rule: Literal["reach", "within"] = "reach"
    components: int | None = None
    add_mean: bool = True
    pca_fit: Literal["train", "each"] = "train"
    val_rows: int | None = None
    speakers: tuple[str, ...] = ()
    split: Literal["take", "speaker"] = "take"
    test_takes: tuple[int, ...] = tuple(range(5))
    val_takes: tuple[int, ...] = tuple(range(5, 10))
    test_speakers: tuple[str, ...] = ()
    val_speakers: tuple[str, ...] = ()
    noise: tuple[str, ...] = KINDS
    snr_min: float = -30.0
    snr_max: float = -5.0

    def __post_init__(self) -> None:
        if fault := self._fault():
            raise SettingsError(fault)

    def _fault(self) -> str | None:
        """What is wrong with the rules, and what would be right; None if nothing is."""
        low, high = self.snr_min, self.snr_max
        if unknown := [kind for kind in self.noise if kind not in (*KINDS, "clips")]:
            choices = f"{', '.join(KINDS)}, a folder of WAVs, or none"
            return f"noise: {unknown[0]!r} is unknown; choose from {choices}"
        if self.components is not None and not 1 <= self.components <= 784:
            return f"components={self.components}: must be 1..784"
        if not 0 < self.energy <= 1:
            return f"energy={self.energy:g}: must lie in 0..1, for example 0.25"
        if not (math.isfinite(low) and math.isfinite(high)):
            return f"snr_min={low:g}, snr_max={high:g}: give decibels, such as -30 and -5"
        if low > high:
            return f"snr_min={low:g} exceeds snr_max={high:g}; give the lower one as --snr-min"
        if self.val_rows is not None and self.val_rows < 1:
            return f"val_rows={self.val_rows}: must be at least 1"
        if self.split == "take" and not self.test_takes:
            return "test_takes is empty, so nothing is left to test on; give some, such as 0-4"
        if both := set(self.test_takes) & set(self.val_takes):
            return f"takes {sorted(both)} are named for both test and validation"
        return None
